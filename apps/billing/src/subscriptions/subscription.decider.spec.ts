import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { cancel, catchUp, renew, start } from './subscription.decider.js';
import { dueAt, goodUntil, periodOf, priceOf, type Step, type SubscriptionState } from './subscription.js';

const at = (text: string) => Date.parse(text);
const HOUR = 3_600_000;
const begin = at('2027-01-31T12:00:00Z');
const RICH = 10n ** 18n;

const begun = (change: { autoRenew?: boolean; periods?: number } = {}): SubscriptionState =>
  start(
    {
      id: 's1',
      organizationId: 'o1',
      pool: { id: 'p1', name: 'h100', models: ['m'] },
      blocks: ['europe'],
      hours: [8, 9],
      pricePerBlockHour: 10n,
      autoRenew: change.autoRenew ?? false,
    },
    change.periods ?? 1,
    begin,
    RICH,
  )[0]!.state;
const told = (steps: readonly Step[]) => steps.map(({ event }) => event);
const after = (steps: readonly Step[]) => steps.at(-1)!.state;
const refusal = (code: string) => expect.objectContaining({ code });
const END = at('2027-02-28T12:00:00Z');

describe('a subscription', () => {
  it('pays for all its first periods, or does not begin', () => {
    expect(begun({ periods: 2 })).toMatchObject({ period: 1, paidThrough: 2, status: 'active', version: 1 });
    expect(goodUntil(begun({ periods: 2 }))).toBe(at('2027-03-31T12:00:00Z'));
    const { pool, blocks, hours } = begun();
    const made = { id: 's', organizationId: 'o', pool, blocks, hours, pricePerBlockHour: 10n, autoRenew: false };
    const cost = 2n * 10n * (28n + 31n);
    expect(told(start(made, 2, begin, cost))).toEqual(['started']);
    expect(() => start(made, 2, begin, cost - 1n)).toThrow(refusal('insufficient_credit'));
  });

  it('that does not renew itself is over at the end of its period, to the millisecond', () => {
    expect(catchUp(begun(), END - 1, RICH)).toEqual([]);
    const steps = catchUp(begun(), END, RICH);
    expect(told(steps)).toEqual(['expired']);
    expect(after(steps)).toMatchObject({ status: 'ended', version: 2 });
    expect(dueAt(after(steps))).toBeNull();
  });

  it('that was paid for in advance goes from period to period without another payment', () => {
    const steps = catchUp(begun({ periods: 3 }), at('2027-04-01T00:00:00Z'), 0n);
    expect(steps.map(({ event, pays, state }) => [event, pays, state.period])).toEqual([
      ['renewed', [], 2],
      ['renewed', [], 3],
    ]);
    expect(told(catchUp(after(steps), at('2027-04-30T12:00:00Z'), RICH))).toEqual(['expired']);
  });

  it('that renews itself pays for the next period when it begins, also when that is seen late', () => {
    const steps = catchUp(begun({ autoRenew: true }), END + 3 * HOUR, RICH);
    expect(steps.map(({ event, pays }) => [event, pays])).toEqual([['renewed', [2]]]);
    expect(periodOf(after(steps), 2)).toEqual({ start: END, end: at('2027-03-31T12:00:00Z') });
  });

  it('whose renewal is not paid is good for 24 h more, says so once, is tried again, and then over', () => {
    const failed = catchUp(begun({ autoRenew: true }), END, 0n);
    expect(told(failed)).toEqual(['renewal_failed']);
    expect(after(failed)).toMatchObject({ status: 'past_due' });
    expect(goodUntil(after(failed))).toBe(END + 24 * HOUR);
    expect(catchUp(after(failed), END + 1, RICH)).toEqual([]);
    const again = catchUp(after(failed), END + HOUR, 0n);
    expect(told(again)).toEqual([null]);
    const paid = catchUp(after(again), END + 2 * HOUR, RICH);
    expect(told(paid)).toEqual(['renewed']);
    expect(after(paid)).toMatchObject({ status: 'active', period: 2, retryAt: null });
    expect(periodOf(after(paid), 2).start).toBe(END);
    const late = catchUp(after(again), END + 24 * HOUR, RICH);
    expect(told(late)).toEqual(['expired']);
  });

  it('that was not looked at until its grace was over is not charged for what nobody could use', () => {
    const steps = catchUp(begun({ autoRenew: true }), END + 24 * HOUR, RICH);
    expect(steps.map(({ event, pays }) => [event, pays])).toEqual([['expired', []]]);
  });

  it('that is cancelled stays good for what is paid, and is not renewed', () => {
    const cancelled = cancel(begun({ autoRenew: true }), begin + 1);
    expect(told(cancelled)).toEqual(['cancelled']);
    expect(goodUntil(after(cancelled))).toBe(END);
    expect(cancel(after(cancelled), begin + 2)).toEqual([]);
    const over = catchUp(after(cancelled), END, RICH);
    expect(told(over)).toEqual(['expired']);
    expect(() => cancel(after(over), END)).toThrow(refusal('conflict'));
  });

  it('that is cancelled when its renewal is due or was not paid is over at once, and pays nothing', () => {
    expect(told(cancel(begun({ autoRenew: true }), END + HOUR))).toEqual(['cancelled', 'expired']);
    const pastDue = after(catchUp(begun({ autoRenew: true }), END, 0n));
    const steps = cancel(pastDue, END + HOUR);
    expect(told(steps)).toEqual(['cancelled', 'expired']);
    expect(steps.flatMap(({ pays }) => pays)).toEqual([]);
  });

  it('that is renewed before its end goes on behind what is paid for; after it, anew from that moment', () => {
    const early = renew(begun(), { periods: 2 }, END - 1, RICH);
    expect(early.map(({ event, pays }) => [event, pays])).toEqual([['renewed', [2, 3]]]);
    expect(goodUntil(after(early))).toBe(at('2027-04-30T12:00:00Z'));
    const late = renew(begun(), { periods: 1 }, END + HOUR, RICH);
    expect(late.map(({ event, pays }) => [event, pays])).toEqual([
      ['expired', []],
      ['renewed', [2]],
    ]);
    expect(after(late)).toMatchObject({ status: 'active', anchorAt: END + HOUR, period: 2 });
    expect(goodUntil(after(late))).toBe(at('2027-03-28T13:00:00Z'));
  });

  it('that is renewed when its renewal is due pays for one period, not for two', () => {
    const steps = renew(begun({ autoRenew: true }), { periods: 1 }, END + HOUR, RICH);
    expect(steps.flatMap(({ pays }) => pays)).toEqual([2]);
    const pastDue = after(catchUp(begun({ autoRenew: true }), END, 0n));
    const paid = renew(pastDue, { periods: 1 }, END + 1, RICH);
    expect(paid.flatMap(({ pays }) => pays)).toEqual([2]);
    expect(after(paid)).toMatchObject({ status: 'active', period: 2, retryAt: null });
  });

  it('can be taken back from cancelling by a renewal, and says whether it renews itself', () => {
    const cancelled = after(cancel(begun({ autoRenew: true }), begin + 1));
    expect(after(renew(cancelled, { periods: 1 }, begin + 2, RICH))).toMatchObject({
      status: 'active',
      autoRenew: false,
      paidThrough: 2,
    });
    expect(after(renew(cancelled, { periods: 1, autoRenew: true }, begin + 2, RICH)).autoRenew).toBe(true);
  });

  it('is not paid for more than 24 periods ahead, nor without the credit', () => {
    expect(() => renew(begun({ periods: 12 }), { periods: 12 }, begin, RICH)).not.toThrow();
    expect(() => renew(begun({ periods: 24 }), { periods: 2 }, begin, RICH)).toThrow(refusal('conflict'));
    expect(() => renew(begun(), { periods: 1 }, begin, priceOf(begun(), 2) - 1n)).toThrow(
      refusal('insufficient_credit'),
    );
  });
});

describe('whatever happens to a subscription, in any order', () => {
  const command = fc.record({
    do: fc.constantFrom('catchUp', 'catchUp', 'renew', 'cancel'),
    waits: fc.oneof(fc.integer({ min: 0, max: 30 * HOUR }), fc.integer({ min: 0, max: 80 * 24 * HOUR })),
    available: fc.constantFrom(0n, 620n, RICH),
    periods: fc.integer({ min: 1, max: 3 }),
    autoRenew: fc.constantFrom(undefined, true, false),
  });

  it('pays for each period once, never over another, never beyond the credit; an end is good only until goodUntil', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 25 }), fc.boolean(), (commands, autoRenew) => {
        let [state, now] = [begun({ autoRenew }), begin];
        const paid = [{ number: 1, ...periodOf(state, 1) }];
        for (const { do: what, waits, available, periods, autoRenew: wish } of commands) {
          now += waits;
          let steps: readonly Step[] = [];
          try {
            if (what === 'catchUp') steps = catchUp(state, now, available);
            else if (what === 'cancel') steps = cancel(state, now);
            else steps = renew(state, { periods, autoRenew: wish }, now, available);
          } catch (error) {
            expect(error).toEqual(expect.objectContaining({ name: 'Rejected' }));
          }
          let version = state.version;
          let cost = 0n;
          for (const step of steps) {
            if (step.event !== null) expect(step.state.version).toBe((version += 1));
            for (const number of step.pays) {
              cost += priceOf(step.state, number);
              paid.push({ number, ...periodOf(step.state, number) });
            }
          }
          expect(cost <= available).toBe(true);
          state = steps.at(-1)?.state ?? state;
          if (what === 'catchUp') expect(dueAt(state) ?? Infinity).toBeGreaterThan(now);
          // Deciding the same at once again changes nothing.
          expect(catchUp(state, now, available).flatMap(({ pays }) => pays)).toEqual([]);
          if (state.status === 'ended') expect(goodUntil(state)).toBeLessThanOrEqual(now);
        }
        expect(paid.map(({ number }) => number)).toEqual(paid.map((_, index) => index + 1));
        for (const [index, one] of paid.entries()) {
          if (index > 0) expect(one.start).toBeGreaterThanOrEqual(paid[index - 1]!.end);
        }
      }),
    );
  });
});

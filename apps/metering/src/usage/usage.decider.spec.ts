import { describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageRecord as record } from '@sluice/contracts/usage-record.fixture';
import * as fc from 'fast-check';
import { contributionOf, rollUp, type Contribution } from './rollup.js';
import { decideUsage, incomingOf, type Booked } from './usage.decider.js';

const decide = (known: ReadonlyMap<string, Booked>, records: readonly UsageRecord[]) =>
  decideUsage(
    known,
    records.map((one) => incomingOf(one)),
  );

/** The tables as far as decisions depend on them: claims, and every contribution ever booked. */
class Tables {
  readonly claims = new Map<string, Booked>();
  readonly contributions: Contribution[] = [];
  quarantined = 0;

  take(batch: readonly UsageRecord[]): this {
    const decision = decide(this.claims, batch);
    for (const [id, { rank, hash, counted, contribution }] of decision.claims)
      this.claims.set(id, { rank, hash, counted, contribution });
    this.contributions.push(...decision.contributions);
    this.quarantined += decision.quarantined.length;
    return this;
  }

  /** What a query would see: rows in which nothing is left are not shown. */
  rollup() {
    return rollUp(this.contributions, 'minute').filter((row) => row.requests !== 0n);
  }
}

describe('decideUsage', () => {
  it('books the first record of a request: tokens, cost at its own prices, and the error if it was one', () => {
    const { contributions } = decide(new Map(), [record({ outcome: 'error' })]);
    expect(contributions).toEqual([
      expect.objectContaining({
        requests: 1n,
        outcome: 'error',
        inputTokens: 100n,
        cachedInputTokens: 20n,
        outputTokens: 30n,
      }),
    ]);
    expect(contributions[0]!.cost).toBe(80n * 2n + 20n * 1n + 30n * 3n);
  });

  it('books the difference of a better record, which may be negative, and moves it to where it belongs', () => {
    const tables = new Tables().take([record({ rank: 2, estimated: true, outputTokens: '50' })]);
    tables.take([record({ endedAt: '2026-11-20T10:01:00.000Z' })]);
    expect(tables.rollup()).toEqual([
      expect.objectContaining({ bucket: Date.parse('2026-11-20T10:01:00Z'), requests: 1n, outputTokens: 30n }),
    ]);
  });

  it('changes nothing for a record seen before, in whatever batch and place of the journal it comes again', () => {
    const tables = new Tables().take([record(), record()]);
    const decision = decide(tables.claims, [record({ seq: 17 })]);
    expect(decision).toMatchObject({ claims: new Map(), contributions: [], quarantined: [], duplicates: 1 });
  });

  it('keeps what is booked when an equally certain record contradicts it, and sets that one aside', () => {
    const tables = new Tables().take([record()]);
    const decision = decide(tables.claims, [record({ outputTokens: '31' }), record({ requestId: 'req-2' })]);
    expect(decision.quarantined).toEqual([expect.objectContaining({ reason: 'conflict' })]);
    expect([...decision.claims.keys()]).toEqual(['req-2']);
  });

  it('counts a cut request once, as far as gateway, journal or router saw it, in whichever order they say so', () => {
    const cut = (outputTokens: string, worker: string | null) =>
      record({ rank: 3, outcome: 'aborted', outputTokens, worker, ttftMs: null });
    const less = cut('7', null);
    const more = cut('9', 'w1');
    const nothing = record({
      rank: 0,
      outcome: 'aborted',
      inputTokens: '0',
      cachedInputTokens: '0',
      outputTokens: '0',
    });
    for (const order of [
      [less, more, nothing],
      [nothing, more, less],
      [more, less, nothing],
    ]) {
      const tables = new Tables();
      for (const one of order) tables.take([one]);
      expect(tables.rollup()).toEqual([expect.objectContaining({ requests: 1n, outputTokens: 9n })]);
      expect(tables.quarantined).toBe(0);
    }
  });

  it('loses nothing else of a batch with an odd record in it', () => {
    const odd = record({ requestId: 'req-odd', cachedInputTokens: '101' });
    const decision = decide(new Map(), [record(), odd, record({ requestId: 'req-2' })]);
    expect([...decision.claims.keys()]).toEqual(['req-1', 'req-2']);
    expect(decision.quarantined).toEqual([expect.objectContaining({ record: odd, reason: 'cached_exceeds_input' })]);
  });

  it('gives the same claims and sums for any order, repetition and cut into batches of the same records', () => {
    const oneOf = (requestId: string, rank: number, tokens: number, minute: number) =>
      record({
        requestId,
        rank,
        outputTokens: String(tokens),
        keyId: `key-${tokens % 2}`,
        outcome: tokens % 3 === 0 ? 'error' : 'ok',
        endedAt: `2026-11-20T10:0${minute}:00.000Z`,
      });
    const distinct = fc.uniqueArray(
      fc.record({
        request: fc.integer({ min: 0, max: 5 }),
        rank: fc.integer({ min: 1, max: 4 }),
        tokens: fc.integer({ min: 0, max: 1000 }),
        minute: fc.integer({ min: 0, max: 2 }),
      }),
      { minLength: 1, maxLength: 20, selector: (r) => `${r.request}/${r.rank}` },
    );
    const history = distinct.chain((all) => {
      const records = all.map((r) => oneOf(`req-${r.request}`, r.rank, r.tokens, r.minute));
      const shuffled = fc.tuple(
        fc.shuffledSubarray(records, { minLength: records.length }),
        fc.array(fc.constantFrom(...records), { maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 10 }),
      );
      return fc.tuple(shuffled, shuffled);
    });
    const play = ([order, again, sizes]: [UsageRecord[], UsageRecord[], number[]]) => {
      const tables = new Tables();
      const all = [...order, ...again];
      for (let i = 0, at = 0; at < all.length; i++) {
        const size = sizes[i % sizes.length]!;
        tables.take(all.slice(at, at + size));
        at += size;
      }
      return tables;
    };
    fc.assert(
      fc.property(history, ([one, other]) => {
        const a = play(one);
        const b = play(other);
        expect(a.rollup()).toEqual(b.rollup());
        expect(a.claims).toEqual(b.claims);
        expect(a.quarantined + b.quarantined).toBe(0);
        expect(a.rollup().reduce((sum, row) => sum + row.requests, 0n)).toBe(BigInt(a.claims.size));
      }),
    );
  });
});

describe('rollUp', () => {
  const at = (time: string) => contributionOf(record({ endedAt: time }));

  it('puts a request into the UTC bucket in which it ended, the end of a bucket being outside', () => {
    const ends = [at('2026-11-20T23:59:59.999Z'), at('2026-11-21T00:00:00.000Z')];
    expect(rollUp(ends, 'day').map((row) => new Date(row.bucket).toISOString())).toEqual([
      '2026-11-20T00:00:00.000Z',
      '2026-11-21T00:00:00.000Z',
    ]);
    expect(rollUp(ends, 'minute')[0]!.bucket).toBe(Date.parse('2026-11-20T23:59:00Z'));
  });

  it('gives its rows in one order, whatever the order of the records: parallel batches must not deadlock', () => {
    const some = ['b', 'a', 'c'].map((keyId) => contributionOf(record({ keyId })));
    expect(rollUp(some, 'hour')).toEqual(rollUp(some.toReversed(), 'hour'));
  });
});

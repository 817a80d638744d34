import type { SubscriptionEvent } from '@sluice/contracts/billing';
import { Rejected } from '@sluice/contracts/errors';
import { formatUsd, type PicoUsd } from '@sluice/primitives/money';
import { dueAt, goodUntil, priceOf, type Step, type SubscriptionState } from './subscription.js';

const RETRY_MS = 10 * 60 * 1000;
/** Periods behind the current one that can be paid for. */
const MOST_AHEAD = 24;

export type NewSubscription = Pick<
  SubscriptionState,
  'id' | 'organizationId' | 'pool' | 'blocks' | 'hours' | 'pricePerBlockHour' | 'autoRenew'
>;

/** The first periods, from now. @throws Rejected `insufficient_credit` */
export function start(made: NewSubscription, periods: number, now: number, available: PicoUsd): readonly Step[] {
  const first: SubscriptionState = {
    ...made,
    status: 'active',
    anchorAt: now,
    anchorPeriod: 1,
    period: 1,
    paidThrough: periods,
    retryAt: null,
    version: 1,
  };
  const pays = numbers(1, periods);
  requireCredit(first, pays, available);
  return [{ event: 'started', state: first, pays }];
}

/**
 * What time has done to it: the next period begins, was paid for or is now, or can't be; or it is over. Nothing where
 * nothing is due, so several processes may look at the same time, and any of them may be late.
 */
export function catchUp(before: SubscriptionState, now: number, available: PicoUsd): readonly Step[] {
  const steps: Step[] = [];
  let [state, left] = [before, available];
  for (let due = dueAt(state); due !== null && due <= now; due = dueAt(state)) {
    const step = dueStep(state, now, left);
    for (const number of step.pays) left -= priceOf(step.state, number);
    steps.push(step);
    state = step.state;
  }
  return steps;
}

function dueStep(state: SubscriptionState, now: number, available: PicoUsd): Step {
  const next = state.period + 1;
  if (state.period < state.paidThrough) return step(state, 'renewed', { period: next });
  if (now >= goodUntil(state)) return step(state, 'expired', { status: 'ended', retryAt: null });
  if (priceOf(state, next) <= available) {
    return step(state, 'renewed', { status: 'active', period: next, paidThrough: next, retryAt: null }, [next]);
  }
  const failed = { ...state, status: 'past_due' as const, retryAt: now + RETRY_MS };
  if (state.status === 'past_due') return { event: null, state: failed, pays: [] };
  return step(state, 'renewal_failed', failed);
}

export interface Renewal {
  readonly periods: number;
  /** Absent: as it was. */
  readonly autoRenew?: boolean | undefined;
}

/**
 * Pays for more: behind what is paid for, or from now where it has ended. A renewal that was due at this moment counts as
 * one of the periods.
 * @throws Rejected `insufficient_credit`, `conflict` for too far ahead
 */
export function renew(before: SubscriptionState, renewal: Renewal, now: number, available: PicoUsd): readonly Step[] {
  const late = catchUp(before, now, available);
  const state = late.at(-1)?.state ?? before;
  const paid = late.flatMap(({ state: then, pays }) => pays.map((number) => priceOf(then, number)));
  const more = renewal.periods - paid.length;
  const autoRenew = renewal.autoRenew ?? state.autoRenew;
  if (more <= 0 && autoRenew === state.autoRenew) return late;
  const pays = numbers(state.paidThrough + 1, Math.max(0, more));
  const again = { status: 'active' as const, autoRenew, paidThrough: state.paidThrough + pays.length, retryAt: null };
  const change: Partial<SubscriptionState> =
    state.status === 'ended'
      ? { ...again, anchorAt: now, anchorPeriod: pays[0]!, period: pays[0]! }
      : { ...again, period: state.status === 'past_due' ? pays[0]! : state.period };
  const renewed = step(state, 'renewed', change, pays);
  if (renewed.state.paidThrough - renewed.state.period > MOST_AHEAD) {
    throw new Rejected('conflict', `At most ${MOST_AHEAD} periods can be paid for in advance.`, { param: 'periods' });
  }
  const left = paid.reduce((sum, price) => sum - price, available);
  requireCredit(renewed.state, pays, left);
  return [...late, renewed];
}

/**
 * It is not renewed any more, and good until the end of what is paid for: over at once in the grace behind it. A renewal
 * that is due at this moment is not made.
 * @throws Rejected `conflict` where it has ended
 */
export function cancel(before: SubscriptionState, now: number): readonly Step[] {
  if (before.status === 'ended') throw new Rejected('conflict', 'The subscription has ended.');
  if (before.status === 'cancelled') return catchUp(before, now, 0n);
  const cancelled = step(before, 'cancelled', { status: 'cancelled', autoRenew: false, retryAt: null });
  return [cancelled, ...catchUp(cancelled.state, now, 0n)];
}

const step = (
  state: SubscriptionState,
  event: SubscriptionEvent,
  change: Partial<SubscriptionState>,
  pays: readonly number[] = [],
): Step => ({ event, state: { ...state, ...change, version: state.version + 1 }, pays });

const numbers = (first: number, count: number): number[] => Array.from({ length: count }, (_, n) => first + n);

function requireCredit(state: SubscriptionState, pays: readonly number[], available: PicoUsd): void {
  const cost = pays.reduce((sum, number) => sum + priceOf(state, number), 0n);
  if (cost <= available) return;
  throw new Rejected(
    'insufficient_credit',
    `This costs ${formatUsd(cost)} USD, and ${formatUsd(available)} USD of credit are available.`,
  );
}

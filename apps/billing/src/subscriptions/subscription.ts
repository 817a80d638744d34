import type { Subscription, SubscriptionEvent } from '@sluice/contracts/billing';
import type { PicoUsd } from '@sluice/primitives/money';
import { HOUR_MS, periodAfter, periodPrice, type Period } from './period.js';

/** How long a subscription that renews itself goes on behind its last paid period, for a renewal that is late or was not paid. */
export const GRACE_MS = 24 * HOUR_MS;

/** Reserved hours of a pool, as billing keeps them. Times are milliseconds since the Unix epoch. */
export interface SubscriptionState {
  readonly id: string;
  readonly organizationId: string;
  readonly pool: { readonly id: string; readonly name: string; readonly models: readonly string[] };
  readonly blocks: readonly string[];
  /** UTC hours of the day, ascending. */
  readonly hours: readonly number[];
  /** What it was made at, for all its periods. */
  readonly pricePerBlockHour: PicoUsd;
  readonly status: Subscription['status'];
  readonly autoRenew: boolean;
  /** When its first period began, or the first one after it had ended: periods are counted from here. */
  readonly anchorAt: number;
  /** The number of the period that begins at the anchor. */
  readonly anchorPeriod: number;
  /** The number of the period it is in, from 1. */
  readonly period: number;
  /** The number of the last period that is paid for, never below `period`. */
  readonly paidThrough: number;
  /** When a renewal that could not be paid is tried again; null where none failed. */
  readonly retryAt: number | null;
  readonly version: number;
}

/** What happens to a subscription: what others hear of it, as it is afterwards. */
export interface Step {
  readonly event: SubscriptionEvent | null;
  readonly state: SubscriptionState;
  /** Numbers of the periods that are paid for by it. */
  readonly pays: readonly number[];
}

export const periodOf = ({ anchorAt, anchorPeriod }: SubscriptionState, number: number): Period =>
  periodAfter(anchorAt, number - anchorPeriod);

export const priceOf = (state: SubscriptionState, number: number): PicoUsd =>
  periodPrice(periodOf(state, number), state.hours.length, state.pricePerBlockHour);

/** From then on it gives nobody anything, whatever was heard or done until then. */
export const goodUntil = (state: SubscriptionState): number =>
  periodOf(state, state.paidThrough).end + (state.autoRenew ? GRACE_MS : 0);

/** When something is to be done about it; null where it has ended. */
export function dueAt(state: SubscriptionState): number | null {
  if (state.status === 'ended') return null;
  return Math.min(state.retryAt ?? periodOf(state, state.period).end, goodUntil(state));
}

import { Rejected } from '@sluice/contracts/errors';

/** How an attempt at a worker ended. Nothing has reached the gateway except in `delivered` and `broken`. */
export type Outcome =
  /** The worker's whole answer went through: 2xx, or a 4xx that is the request's own fault. */
  | { readonly kind: 'delivered' }
  /** Bytes had gone out, then the worker was lost: nothing can be tried again. */
  | { readonly kind: 'broken' }
  /** No connection, or it was lost before the first byte. */
  | { readonly kind: 'unreachable' }
  /** A status that is the worker's fault. */
  | { readonly kind: 'failed'; readonly status: number }
  /** 429: backpressure, not a fault. */
  | { readonly kind: 'full'; readonly retryAfter: number | undefined }
  /** It did not begin to answer in time. */
  | { readonly kind: 'stalled' }
  /** What it sent is not HTTP that can be passed on. */
  | { readonly kind: 'garbled' }
  /** Ended from this side: the gateway went away, or the deadline passed. */
  | { readonly kind: 'ended' };

export type Failure = Extract<Outcome, { kind: 'unreachable' | 'failed' | 'full' | 'stalled' | 'garbled' }>;

export const MAX_ATTEMPTS = 3;

/** Where nothing better is known, the seconds after which a client may try again. */
const RETRY_AFTER_SECONDS = 1;

/**
 * Whether an answer of this status is the gateway's to have. A worker's 401, 403 or 407 is about the secret that the
 * router sent, a redirect is nowhere to follow: both are the worker's (or its operator's) fault, not the client's.
 */
export function judge(status: number): 'pass' | 'full' | 'failed' {
  if (status === 429) return 'full';
  if (status >= 500 || status < 200 || (status >= 300 && status < 400)) return 'failed';
  return status === 401 || status === 403 || status === 407 ? 'failed' : 'pass';
}

export const isFailure = (outcome: Outcome): outcome is Failure =>
  outcome.kind !== 'delivered' && outcome.kind !== 'broken' && outcome.kind !== 'ended';

/**
 * A worker that was not there may come back, so it is worth waiting for, and may be asked again; one that answered with a
 * failure is not asked twice for the same request.
 */
export const mayComeBack = (failure: Failure | undefined): boolean =>
  failure === undefined || failure.kind === 'unreachable';

/** What the gateway is told when nobody could answer; `undefined` = no worker was there to be tried. */
export function refusalAfter(failure: Failure | undefined): Rejected {
  switch (failure?.kind) {
    case undefined:
    case 'unreachable':
      return new Rejected('unavailable', 'No worker for this model answers now.', { retryAfter: RETRY_AFTER_SECONDS });
    case 'full':
      return new Rejected('queue_full', undefined, { retryAfter: failure.retryAfter ?? RETRY_AFTER_SECONDS });
    case 'stalled':
      return new Rejected('timeout', 'The worker did not begin to answer in time.');
    case 'failed':
    case 'garbled':
      return new Rejected('worker_error');
  }
}

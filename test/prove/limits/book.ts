import type { Call, Refusal } from './caller.ts';
import type { Scope } from './plan.ts';

/** After the last byte the place in flight is given back in the background: a refusal within this says nothing. */
const GIVEN_BACK_MS = 3_000;
/** Tokens are counted in 60 parts of the window, of which the oldest counts whole. */
const PARTS = 60;
/** What a gateway holds ahead counts from when it was given, and may be used this much later. */
const AHEAD_MS = 250;

export interface Times {
  readonly windowMs: number;
  readonly leaseMs: number;
}

export interface OverLimit {
  readonly scope: string;
  readonly what: Refusal['by'];
  readonly limit: number;
  /** Surely admitted within one window, or surely in flight at once. */
  readonly seen: number;
}

export interface Unjustified {
  readonly scope: string;
  readonly by: Refusal['by'];
  readonly limit: number;
  /** At most this much of the limit can have been in use. */
  readonly used: number;
  readonly at: number;
}

/** What one worker says of one request. Milliseconds. */
export interface Run {
  readonly from: number;
  readonly to: number;
}

/** Admitted, as the client saw it. */
export const admitted = ({ status }: Call): boolean => status === 200;
/** It may have been admitted: whoever got no answer does not know, and a failure may have come after the admission. */
const perhaps = ({ status, unsent }: Call): boolean =>
  !unsent && (status === undefined || status === 200 || status >= 500);

/**
 * The most that was surely admitted within one window. A request was admitted between its sending and the head of its
 * answer: those whose both lie within one window are all of that window, whatever the moments in between were. So this is
 * never more than the truth, and less by no more than what lies within an answer's time of the window's ends.
 */
export function fullest(calls: readonly Call[], windowMs: number, weight: (call: Call) => number): number {
  const sorted = calls.filter((call) => admitted(call) && weight(call) > 0).toSorted((a, b) => a.sentAt - b.sentAt);
  let most = 0;
  for (const [i, { sentAt }] of sorted.entries()) {
    let sum = 0;
    for (let j = i; j < sorted.length && sorted[j]!.sentAt < sentAt + windowMs; j++)
      if (sorted[j]!.headAt! + 1 <= sentAt + windowMs) sum += weight(sorted[j]!);
    most = Math.max(most, sum);
  }
  return most;
}

export const one = (): number => 1;
/** Of an answer that broke off, less may have been charged in the end. */
export const surelyCharged = ({ whole, tokens }: Call): number => (whole ? tokens : 0);

/** What went beyond a limit of the scope. @param runs what the workers say of its requests */
export function overLimits(scope: Scope, calls: readonly Call[], runs: readonly Run[], windowMs: number): OverLimit[] {
  const { rpm, tpm, concurrency, name } = scope;
  const seen: [Refusal['by'], number | null, () => number][] = [
    ['requests', rpm, () => fullest(calls, windowMs, one)],
    ['tokens', tpm, () => fullest(calls, windowMs, surelyCharged)],
    ['concurrency', concurrency, () => atOnce(runs)],
  ];
  return seen.flatMap(([what, limit, count]) => {
    const most = limit === null ? 0 : count();
    return limit !== null && most > limit ? [{ scope: name, what, limit, seen: most }] : [];
  });
}

/**
 * How many requests a worker had at once. It has one only while its place is held: it comes after the admission, and the
 * place is given back after its end. Ends go before beginnings of the same millisecond.
 */
export function atOnce(runs: readonly Run[]): number {
  const steps = runs.flatMap(({ from, to }) => (to > from ? [[from, 1] as const, [to, -1] as const] : []));
  steps.sort(([a, up], [b, other]) => a - b || up - other);
  let now = 0;
  return steps.reduce((most, [, step]) => Math.max(most, (now += step)), 0);
}

/**
 * The other side: at most this much of the limit can have been in use when a request was refused by it. Everything counts
 * that may have been admitted before the refusal and not a window before.
 */
export function usedAt(refused: Call, by: Refusal['by'], calls: readonly Call[], { windowMs, leaseMs }: Times): number {
  const until = refused.headAt! + 1;
  if (by === 'concurrency') {
    const held = (call: Call) =>
      (call.endAt ?? Infinity) + (call.whole ? GIVEN_BACK_MS : leaseMs + GIVEN_BACK_MS) > refused.sentAt;
    return calls.filter((call) => perhaps(call) && call.sentAt < until && held(call)).length;
  }
  const since = refused.sentAt - AHEAD_MS - (by === 'requests' ? windowMs : windowMs + Math.ceil(windowMs / PARTS));
  const within = calls.filter(
    (call) => perhaps(call) && call.sentAt < until && (call.headAt ?? call.endAt ?? Infinity) + 1 > since,
  );
  if (by === 'requests') return within.length;
  // With its own tokens it did not fit.
  return within.reduce((sum, { tokens }) => sum + tokens, refused.tokens);
}

export const limitOf = (scope: Scope, by: Refusal['by']): number | null =>
  by === 'requests' ? scope.rpm : by === 'tokens' ? scope.tpm : scope.concurrency;

/** All calls of a run, by what they count against. */
export class Book {
  readonly calls: Call[] = [];
  private readonly byScope = new Map<Scope, Call[]>();

  note(call: Call): void {
    this.calls.push(call);
    for (const scope of call.key.scopes) {
      const its = this.byScope.get(scope);
      if (its) its.push(call);
      else this.byScope.set(scope, [call]);
    }
  }

  of(scope: Scope): readonly Call[] {
    return this.byScope.get(scope) ?? [];
  }

  /** Every refusal by Redis' count, and how much of the limit was in use at most. */
  *refusals(times: Times): Generator<Unjustified> {
    for (const call of this.calls) {
      if (call.refusal === undefined || call.degraded) continue;
      const { of, by } = call.refusal;
      const scope = call.key.scopes.find(({ kind }) => kind === of);
      const limit = scope && limitOf(scope, by);
      // A limit that the key does not have.
      if (!scope || limit === null || limit === undefined)
        yield { scope: `${of} of ${call.key.name}`, by, limit: 0, used: 0, at: call.sentAt };
      else yield { scope: scope.name, by, limit, used: usedAt(call, by, this.of(scope), times), at: call.sentAt };
    }
  }
}

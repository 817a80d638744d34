// What was admitted around a loss of Redis, against the shares of the gateways and against the limit.
import { admitted, fullest, one, surelyCharged, type Book } from '../book.ts';
import type { Call, IssuedKey } from '../caller.ts';
import { decided, type Stage } from '../stage.ts';

/** Each key has one limit that is of interest: of the widest of its scopes. */
export interface Lost {
  readonly stage: Stage;
  readonly book: Book;
  readonly keys: readonly IssuedKey[];
  readonly lostAt: number;
  /** Of a limit, for each gateway. */
  readonly share: (limit: number) => number;
}

export interface RedisLost {
  /** Calls that were answered by a gateway alone, and how many of them were admitted. */
  readonly alone: { readonly calls: number; readonly admitted: number };
  /** The least, over keys and gateways, of what was admitted alone, as a part of the share. */
  readonly leastOfShare: number;
  /** The most, over keys, that was surely admitted in a window in which Redis was lost, as a part of the limit. */
  readonly mostOfLimit: number;
  /** The same of windows that began when Redis was back. */
  readonly mostAfterwards: number;
  /** And of those that began a window later: the least of it that was used, where there was demand. */
  readonly backInUse: number;
}

/** As many tokens as the largest request of the load may be left of a limit. */
const LARGEST = 58;
/** From the kill until every gateway has heard of it. */
const HEARD_MS = 1_000;

/** @param until wall clock: only what was sent before */
export function leastOfShares({ stage, book, keys, lostAt, share }: Lost, until: number): number {
  const parts = keys.flatMap((key) => {
    const { calls, limit, weight, rest } = counted(book, key);
    return stage.cluster.gateways.flatMap(({ index }) => {
      const its = at(calls, index).filter(({ sentAt }) => sentAt < until);
      if (its.some((call) => admitted(call) && call.sentAt < lostAt)) return [];
      const alone = fullest(its, stage.times.windowMs, weight);
      return [(alone + rest) / share(limit)];
    });
  });
  return Math.min(...parts);
}

export function judge(lost: Lost, startedAt: number, backAt: number): RedisLost {
  const { stage, book, keys, lostAt, share } = lost;
  const { windowMs } = stage.times;
  const parts = keys.map((key) => {
    const { calls, limit, weight, rest } = counted(book, key);
    for (const { index, name } of stage.cluster.gateways) {
      const its = at(calls, index).filter(({ sentAt }) => sentAt < startedAt);
      const before = its.filter((call) => admitted(call) && call.sentAt < lostAt).length;
      const got = fullest(its, windowMs, weight);
      if (got > Math.max(before, share(limit)))
        stage.problem(
          `Redis lost: ${key.name} got ${got} at ${name}, ${before} of it before; the share is ${share(limit)}`,
        );
    }
    const most = fullest(calls, windowMs, weight);
    const bound = limit + (stage.cluster.gateways.length - 1) * share(limit);
    if (most > bound) stage.problem(`Redis lost: ${key.name} got ${most} in a window; the bound is ${bound}`);
    // What a gateway of a busy machine decides alone is not Redis'.
    const since = (from: number) => calls.filter(({ sentAt, degraded }) => sentAt >= from && !degraded);
    const afterwards = fullest(since(backAt), windowMs, weight);
    if (afterwards > limit)
      stage.problem(`Redis back: ${key.name} got ${afterwards} in a window; the limit is ${limit}`);
    const inUse = fullest(since(backAt + windowMs), windowMs, weight) + rest;
    return { most: most / limit, afterwards: afterwards / limit, inUse: inUse / limit };
  });
  const silent = book.calls.filter(
    (call) => !call.degraded && decided(call) && call.sentAt > lostAt + HEARD_MS && call.endAt! < startedAt,
  );
  if (silent.length > 0) stage.problem(`Redis lost: ${silent.length} answers do not say so`);
  const alone = book.calls.filter(({ degraded, sentAt }) => degraded && sentAt < startedAt);
  return {
    alone: { calls: alone.length, admitted: alone.filter(admitted).length },
    leastOfShare: rounded(leastOfShares(lost, startedAt)),
    mostOfLimit: rounded(Math.max(...parts.map(({ most }) => most))),
    mostAfterwards: rounded(Math.max(...parts.map(({ afterwards }) => afterwards))),
    backInUse: rounded(Math.min(...parts.map(({ inUse }) => inUse))),
  };
}

function counted(book: Book, { scopes }: IssuedKey) {
  const scope = scopes.at(-1)!;
  const calls = book.of(scope);
  return scope.rpm === null
    ? { calls, limit: scope.tpm!, weight: surelyCharged, rest: LARGEST }
    : { calls, limit: scope.rpm, weight: one, rest: 0 };
}

const at = (calls: readonly Call[], gateway: number): Call[] => calls.filter((call) => call.gateway === gateway);
const rounded = (value: number): number => Math.round(value * 1_000) / 1_000;

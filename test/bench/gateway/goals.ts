import type { Goal } from '../../prove/runner/program.ts';
import { CHUNKS, MAIN_CASE, STREAM_CASE, type SystemName } from './cases.ts';
import { awaitedTrips, type Book, type Counters } from './counters.ts';
import { round, sum, type SystemFigures } from './figures.ts';
import type { MemoryFigures } from './memory.ts';
import type { Ledger } from './rounds.ts';

const MAX_US = 140;
const TIMES_UNDER_PORTKEY = 5;
const ADDED_P50_MS = 0.6;
const ADDED_P99_MS = 3;
const CHUNK_TIMES = 2;
/** Of a hundred requests: what auth does anyway is taken off and is never quite the same, and a lease may lapse under load. */
const NO_TRIPS = 0.01;

export type CaseFigures = Readonly<Record<string, readonly SystemFigures[]>>;

const of = (figures: readonly SystemFigures[] | undefined, system: SystemName) =>
  figures?.find((one) => one.system === system);

/** CPU of the two processes that a request passes; microseconds. */
export const passedUs = ({ byProcess }: SystemFigures): number =>
  round((byProcess['gateway'] ?? NaN) + (byProcess['router'] ?? NaN), 1);

export function costGoals(cases: CaseFigures, half: readonly SystemFigures[] | undefined): Record<string, Goal> {
  const goals: Record<string, Goal> = {};
  const main = of(cases[MAIN_CASE], 'sluice');
  if (main) {
    const us = passedUs(main);
    goals['gatewayAndRouterUs'] = { goal: `≤ ${MAX_US}`, value: us, ok: us <= MAX_US };
    const times = round((of(cases[MAIN_CASE], 'portkey')?.cpuUs ?? NaN) / us, 2);
    goals['timesUnderPortkey'] = { goal: `≥ ${TIMES_UNDER_PORTKEY}`, value: times, ok: times >= TIMES_UNDER_PORTKEY };
  }
  const [slow, direct] = [of(half, 'sluice'), of(half, 'direct')];
  if (slow && direct) {
    const added = (from: number, to: number) => round(to - from, 2);
    const [p50, p99] = [added(direct.p50Ms, slow.p50Ms), added(direct.p99Ms, slow.p99Ms)];
    goals['addedP50Ms'] = { goal: `≤ ${ADDED_P50_MS}`, value: p50, ok: p50 <= ADDED_P50_MS };
    goals['addedP99Ms'] = { goal: `≤ ${ADDED_P99_MS}`, value: p99, ok: p99 <= ADDED_P99_MS };
  }
  const [stream, pipe] = [of(cases[STREAM_CASE], 'sluice'), of(cases[STREAM_CASE], 'bare-2')];
  if (stream && pipe) {
    const [own, bare] = [round(passedUs(stream) / CHUNKS, 2), round(pipe.cpuUs / CHUNKS, 2)];
    const value = { sluiceUs: own, bareTwoHopsUs: bare, times: round(own / bare, 2) };
    goals['perChunk'] = { goal: `≤ ${CHUNK_TIMES} × bare`, value, ok: own <= CHUNK_TIMES * bare };
  }
  return goals;
}

export interface Truth {
  readonly ledger: Ledger;
  /** Since the gateway started. */
  readonly whole: Counters;
  readonly metering: Book;
  readonly billing: Book;
  /** Transactions in auth's database per second while nobody sent requests. */
  readonly authIdlePerSecond: number;
}

/** Every count of the same requests has to be the same. */
export function truthGoals(truth: Truth): Record<string, Goal> {
  const { ledger, whole, metering, billing } = truth;
  const equal = (value: number, expected: number): Goal => ({ goal: String(expected), value, ok: value === expected });
  const book = ({ records, inputTokens, outputTokens, quarantined }: Book): Goal => {
    const { answered } = ledger;
    const same = records === answered && inputTokens === ledger.inputTokens && outputTokens === ledger.outputTokens;
    return {
      goal: `${answered} requests, ${ledger.inputTokens} + ${ledger.outputTokens} tokens`,
      value: { records, inputTokens, outputTokens, quarantined },
      ok: same && quarantined === 0,
    };
  };
  return {
    answeredSome: { goal: '> 0', value: ledger.answered, ok: ledger.answered > 0 },
    errors: equal(ledger.errors, 0),
    errorsOfOthers: equal(ledger.errorsOfOthers, 0),
    gatewayAnswered: equal(whole.answered, ledger.answered),
    gatewayFailed: equal(whole.failed + whole.refused, 0),
    limitChecks: equal(whole.limitChecks, ledger.answered),
    meteringRecords: book(metering),
    billingCharges: book(billing),
  };
}

/** Of the loads after the warm-up. */
export function tripsOf({ ledger, authIdlePerSecond }: Truth) {
  const { counters, seconds } = ledger.loaded;
  const requests = sum(counters.map(({ answered }) => answered));
  const perRequest = (of: (counters: Counters) => number) => round(sum(counters.map(of)) / requests, 4);
  const authTransactions = sum(counters.map((one) => one.authTransactions));
  return {
    requests,
    redisAwaited: perRequest(awaitedTrips),
    redisScripts: perRequest(({ redis }) => (redis['evalsha'] ?? 0) + (redis['eval'] ?? 0)),
    redisReads: perRequest(({ redisReads }) => redisReads),
    recordsPerBatch: round(requests / sum(counters.map(({ usageBatches }) => usageBatches)), 1),
    keyLookups: perRequest((one) => one.keyLookups),
    authTransactions,
    authIdlePerSecond: round(authIdlePerSecond, 2),
    authTransactionsPerRequest: round(Math.max(0, authTransactions - authIdlePerSecond * seconds) / requests, 5),
  };
}

export function tripGoals(trips: ReturnType<typeof tripsOf>): Record<string, Goal> {
  const { redisAwaited, keyLookups, authTransactionsPerRequest } = trips;
  return {
    redisTripsAwaited: { goal: '≤ 1', value: redisAwaited, ok: redisAwaited <= 1 },
    postgresTrips: {
      goal: `0 (≤ ${NO_TRIPS} after what auth does anyway)`,
      value: authTransactionsPerRequest,
      ok: authTransactionsPerRequest <= NO_TRIPS,
    },
    keyLookups: { goal: `0 (≤ ${NO_TRIPS})`, value: keyLookups, ok: keyLookups <= NO_TRIPS },
  };
}

export const memoryGoals = (memory: Readonly<Record<string, MemoryFigures>>): Record<string, Goal> =>
  Object.fromEntries(
    Object.entries(memory).map(([name, { growthMB, slopeMBPerMinute, flat }]) => [
      `memoryFlat.${name}`,
      { goal: 'no growth', value: { growthMB, slopeMBPerMinute }, ok: flat },
    ]),
  );

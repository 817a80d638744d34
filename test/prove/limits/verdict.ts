import type { Goal, Verdict } from '../runner/program.ts';
import type { Unjustified } from './book.ts';
import type { Call, Refusal } from './caller.ts';
import { limitOf } from './book.ts';
import { FULL, type Load, type Played } from './play.ts';
import type { Scope } from './plan.ts';
import type { Times } from './book.ts';

/** Of a key that was admitted less often, nobody can say that all gateways should have had a part. */
const OFTEN = 12;
/** Of the limits, that refused somebody: the others were not tried. */
const TRIED = 0.5;
/** Of the decisions of the load: Redis may be late on a busy machine. */
const ALONE = 0.05;
/** From the end of a lease to the next try, and its answer. */
const TAKEN_AGAIN_MS = 1_500;
const KINDS = ['requests', 'tokens', 'concurrency'] as const satisfies readonly Refusal['by'][];

/** What a run came to. @returns also what was not as it should be, in words */
export function verdictOn(
  { problems, load, crash, redis }: Played,
  { leaseMs }: Times,
): Verdict & { faults: string[] } {
  const faults = [...problems];
  const goals: Record<string, Goal> = {};
  const goal = (name: string, wanted: string, value: unknown, ok: boolean) =>
    (goals[name] = { goal: wanted, value, ok });
  goal('asDescribed', 'nothing else than what is described', problems.length, problems.length === 0);
  if (load) {
    const { over, refusals } = load;
    for (const { scope, what, limit, seen } of over)
      faults.push(`${scope}: ${seen} ${what} at once or in a window; the limit is ${limit}`);
    const unused = refusals.filter((one) => one.used < needed(one));
    for (const { scope, by, limit, used } of unused)
      faults.push(`${scope}: refused by ${by} when ${used} of ${limit} were in use at most`);
    goal('withinLimits', '0 limits exceeded, in any window', over.length, over.length === 0);
    goal('inUse', `0 refusals below ${FULL * 100} % of a limit`, unused.length, unused.length === 0);
    const tried = triedOf(load);
    goal('tried', `>= ${TRIED * 100} % of the limits refuse somebody`, tried.part, tried.part >= TRIED);
    const { uneven, keys } = spread(load);
    goal(
      'byAllGateways',
      `each of the ${keys} keys used often is served by every gateway`,
      uneven,
      uneven.length === 0,
    );
    const alone = load.book.calls.filter(({ degraded }) => degraded).length / Math.max(1, load.book.calls.length);
    goal('byRedis', `< ${ALONE * 100} % decided by a gateway alone`, round(alone), alone < ALONE);
    goal('killed', 'a gateway with requests in flight', load.lostInFlight, load.lostInFlight > 0);
  }
  if (crash) {
    const most = leaseMs + TAKEN_AGAIN_MS;
    const { freedMs } = crash;
    goal('freed', 'all places of a dead gateway are free again', freedMs !== null, freedMs !== null);
    goal('freedMs', `<= ${most} ms after its death`, freedMs, freedMs !== null && freedMs <= most);
  }
  if (redis) {
    const { leastOfShare, mostAfterwards, backInUse } = redis;
    goal('share', `>= ${FULL} of each share when Redis is lost`, leastOfShare, leastOfShare >= FULL);
    goal('afterwards', '<= 1 of each limit in every window from its return', mostAfterwards, mostAfterwards <= 1);
    goal('back', `>= ${FULL} of each limit, a window later`, backInUse, backInUse >= FULL);
  }
  return { figures: { ...(load && figuresOf(load)), crash, redis, problems }, goals, faults };
}

const needed = ({ by, limit }: Unjustified): number => (by === 'concurrency' ? limit : limit * FULL);
const round = (value: number): number => Math.round(value * 1_000) / 1_000;

function figuresOf(load: Load) {
  const { plan, book, refusals, places, killed, lostInFlight } = load;
  const count = (is: (call: Call) => boolean) => book.calls.filter(is).length;
  const leastInUse = Object.fromEntries(
    KINDS.map((kind) => {
      const parts = refusals.filter(({ by }) => by === kind).map(({ used, limit }) => used / limit);
      return [kind, parts.length === 0 ? null : round(parts.reduce((a, b) => Math.min(a, b)))];
    }),
  );
  const of = (kind: Scope['kind']) => plan.scopes.filter((scope) => scope.kind === kind);
  return {
    scopes: { keys: of('key').length, projects: of('project').length, organizations: of('organization').length },
    limits: triedOf(load),
    calls: {
      all: book.calls.length,
      admitted: count(({ status }) => status === 200),
      refused: Object.fromEntries(KINDS.map((by) => [by, count(({ refusal }) => refusal?.by === by)])),
      refusedFor: Object.fromEntries(
        (['key', 'project', 'organization'] as const).map((kind) => [
          kind,
          count(({ refusal }) => refusal?.of === kind),
        ]),
      ),
      alone: count(({ degraded }) => degraded),
      other: otherAnswers(book.calls),
    },
    leastInUse,
    killed: { gateway: killed + 1, lostInFlight },
    placesAfterwards: places,
  };
}

/** Limits of the plan, and those that refused somebody. */
function triedOf({ plan, book }: Load): { all: number; tried: number; part: number } {
  const all = plan.scopes.flatMap((scope) =>
    KINDS.filter((by) => limitOf(scope, by) !== null).map((by) => ({ scope, by })),
  );
  const tried = all.filter(({ scope, by }) =>
    book.of(scope).some(({ refusal }) => refusal?.by === by && refusal.of === scope.kind),
  );
  return { all: all.length, tried: tried.length, part: round(tried.length / all.length) };
}

function spread({ plan, book }: Load): { uneven: string[]; keys: number } {
  const often = plan.keys.flatMap(({ scopes: [own], name }) => {
    const its = book.of(own!).filter(({ status }) => status === 200);
    return its.length >= OFTEN ? [{ name, gateways: new Set(its.map(({ gateway }) => gateway)).size }] : [];
  });
  return { uneven: often.filter(({ gateways }) => gateways < 3).map(({ name }) => name), keys: often.length };
}

/** Neither admitted nor refused by a limit. */
function otherAnswers(calls: readonly Call[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status, refusal, unsent, text } of calls) {
    if (status === 200 || refusal) continue;
    const said = /"message":"([^"]{1,80})/.exec(text)?.[1] ?? '';
    const what = status === undefined ? (unsent ? 'not sent' : 'no answer') : `${status} ${said}`.trim();
    counts[what] = (counts[what] ?? 0) + 1;
  }
  return counts;
}

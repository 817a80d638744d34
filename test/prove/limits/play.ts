import { setTimeout as sleep } from 'node:timers/promises';
import { progressOf } from '../../load/replay/progress.ts';
import type { Patch } from '../revocation/build.ts';
import { Cluster, type Gateway } from '../revocation/cluster.ts';
import type { Random } from '../runner/random.ts';
import { Book, overLimits, type OverLimit, type Times, type Unjustified } from './book.ts';
import type { Call, IssuedKey } from './caller.ts';
import { press } from './load.ts';
import { planOf, type Plan } from './plan.ts';
import { runsOf } from './runs.ts';
import { crash, type Crash } from './scenes/crash.ts';
import { redisLost } from './scenes/redis-lost.ts';
import { rollCall } from './scenes/roll-call.ts';
import type { RedisLost } from './scenes/shares.ts';
import { whatIsTaken } from './scenes/taken.ts';
import { Registry } from './setup.ts';
import { until, type Stage } from './stage.ts';
import { patchesFor } from './times.ts';

/** Of the limit, or of the share: what has to be in use when somebody is refused by it. */
export const FULL = 0.97;
/** What the load left behind is given back within this, well before a lease ends. */
const GIVEN_BACK_MS = 3_000;
const READY_MS = 60_000;
/** An answer that outlives the lease of its place. */
const LONG_LEASES = 1.6;

export const SCENES = ['taken', 'load', 'crash', 'redis'] as const;
export type Scene = (typeof SCENES)[number];

export interface Script {
  readonly scenes: readonly Scene[];
  readonly keys: number;
  /** Of load. */
  readonly seconds: number;
  /** How long Redis is away. */
  readonly lostMs: number;
  readonly times: Times;
  readonly patches?: readonly Patch[];
  readonly random: Random;
  readonly stopping: AbortSignal;
  readonly say: (line: string) => void;
  /** Nobody watches: no progress. */
  readonly quiet?: boolean;
}

export interface Load {
  readonly plan: Plan;
  readonly book: Book;
  readonly over: readonly OverLimit[];
  readonly refusals: readonly Unjustified[];
  /** Places that were all taken again after it. */
  readonly places: number;
  /** In flight at the gateway that was killed. */
  readonly lostInFlight: number;
  readonly killed: number;
}

export interface Played {
  readonly problems: readonly string[];
  readonly load: Load | undefined;
  readonly crash: Crash | undefined;
  readonly redis: RedisLost | undefined;
}

/** A whole Sluice with three gateways, and what is done to it. */
export async function playLimits(script: Script): Promise<Played> {
  const { scenes, times, random, stopping, say } = script;
  const problems: string[] = [];
  const cluster = await Cluster.start([...patchesFor(times), ...(script.patches ?? [])]);
  try {
    const registry = new Registry(cluster);
    const problem = (what: string) => void problems.push(what);
    const stage: Stage = { cluster, registry, times, random: random.fork('stage'), stopping, problem };
    const wanted = (scene: Scene) => scenes.includes(scene) && !stopping.aborted;
    if (wanted('taken')) {
      say('what a request takes, what a refused one does not, and what they are told');
      await whatIsTaken(stage);
    }
    const load = wanted('load') ? await underLoad(stage, script) : undefined;
    if (wanted('crash')) say(`a gateway dies with places in flight; their lease is ${times.leaseMs / 1_000} s`);
    const crashed = wanted('crash') ? await crash(stage, Math.floor(random.fork('victim').next() * 3)) : undefined;
    if (wanted('redis')) say(`Redis is killed for ${script.lostMs / 1_000} s; then two windows pass`);
    const redis = wanted('redis') ? await redisLost(stage, script.lostMs) : undefined;
    return { problems, load, crash: crashed, redis };
  } finally {
    await cluster.stop();
  }
}

/** Everybody wants more than he may, at all gateways; in the middle one of these is killed. */
async function underLoad(stage: Stage, { keys: count, seconds, quiet, say }: Script): Promise<Load> {
  const { cluster, registry, times, random, stopping } = stage;
  const plan = planOf(count, times.windowMs / 1_000, random.fork('plan'));
  const keys: IssuedKey[] = [];
  for (const planned of plan.keys) keys.push(await registry.issue(planned));
  for (const gateway of cluster.gateways) await Promise.all(keys.map((key) => until(() => knows(gateway, key))));
  say(
    `${count} keys, ${plan.scopes.length} scopes with limits, ${seconds} s of load, windows of ${times.windowMs / 1_000} s`,
  );
  const book = new Book();
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, stopping]);
  const longMs = LONG_LEASES * times.leaseMs;
  const pressed = Promise.all(keys.map((key) => press(cluster, key, book, random.fork(key.name), { signal, longMs })));
  const progress = quiet === true ? undefined : progressOf('load', seconds);
  const killed = Math.floor(random.fork('killed').next() * cluster.gateways.length);
  let lostInFlight = 0;
  for (let second = 1; second <= seconds && !stopping.aborted; second++) {
    await sleep(1_000);
    if (second === Math.ceil(seconds / 2)) {
      lostInFlight = book.calls.filter(({ gateway, endAt }) => gateway === killed && endAt === undefined).length;
      cluster.gateways[killed]!.process.kill('SIGKILL');
    }
    progress?.set(
      second,
      `${book.calls.length} calls, ${book.calls.filter(({ status }) => status === 200).length} admitted`,
    );
  }
  over.abort();
  await pressed;
  progress?.end();
  const bare = keys.filter(
    ({ scopes: [own, ...above] }) => above.length === 0 && own!.rpm === null && own!.tpm === null,
  );
  await Promise.all(cluster.gateways.map(({ process }) => process.ready(READY_MS)));
  const { places } = await rollCall(stage, bare, GIVEN_BACK_MS);
  // What a gateway decided alone, as Redis did not answer in time, is of another rule.
  const byRedis = (calls: readonly Call[]) => calls.filter(({ degraded }) => !degraded);
  const runs = runsOf(cluster, byRedis(book.calls));
  return {
    plan,
    book,
    over: plan.scopes.flatMap((scope) =>
      overLimits(scope, byRedis(book.of(scope)), runs.get(scope) ?? [], times.windowMs),
    ),
    refusals: [...book.refusals(times)],
    places,
    lostInFlight,
    killed,
  };
}

/** Has looked the key up, by a call that counts as no request. */
async function knows({ url }: Gateway, { secret }: IssuedKey): Promise<boolean> {
  try {
    const headers = { authorization: `Bearer ${secret}` };
    const answer = await fetch(`${url}/v1/key`, { headers, signal: AbortSignal.timeout(5_000) });
    await answer.arrayBuffer();
    return answer.ok;
  } catch {
    return false;
  }
}

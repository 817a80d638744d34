// Redis is killed, with all that it counted. Each gateway holds everybody to its share, and says so; when Redis is back, so
// is the count over all gateways.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Gateway } from '../../revocation/cluster.ts';
import { admitted, Book } from '../book.ts';
import type { IssuedKey } from '../caller.ts';
import { press } from '../load.ts';
import { judge, leastOfShares, type Lost, type RedisLost } from './shares.ts';
import { Clerk, decided, keyWith, Streams, until, type Stage } from '../stage.ts';

const RPM = 24;
const TPM = 2_400;
const PLACES = 6;
const FEW = 2;
/** More than anybody gets. */
const WANTED = 4;

/** @param lostMs how long Redis is away */
export async function redisLost(stage: Stage, lostMs: number): Promise<RedisLost> {
  const { cluster, times, random } = stage;
  const { gateways } = cluster;
  const { redis } = cluster.stack.backing;
  const used = thirsty(await keyWith(stage, 'lost-used', { rpm: RPM }));
  const keys = [
    used,
    thirsty(await keyWith(stage, 'lost-fresh', { rpm: RPM })),
    thirsty(await keyWith(stage, 'lost-tokens', { tpm: TPM })),
    thirsty(await keyWith(stage, 'lost-shared', { rpm: 10_000 }, { rpm: RPM })),
  ];
  const few = await keyWith(stage, 'lost-few', { rpm: FEW });
  const places = await keyWith(stage, 'lost-places', { concurrency: PLACES });
  const probe = await keyWith(stage, 'lost-probe', { rpm: 10_000 });
  const book = new Book();
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, stage.stopping]);
  const share = (limit: number) => Math.floor(limit / gateways.length);

  // What was admitted by Redis counts against the share of the gateway that did.
  const first = new Clerk([gateways[0]!]);
  for (let i = 0; i < share(RPM) + 2; i++) book.note(await first.small(used));
  await redis.kill();
  const lostAt = Date.now();
  if (!(await all(gateways, (gateway) => isAlone(gateway, probe, true))))
    stage.problem('Redis lost: not every gateway says so');
  const pressed = Promise.all(
    keys.map((key) => press(cluster, key, book, random.fork(key.name), { signal, longMs: 0 })),
  );
  await Promise.all([
    ...gateways.map((gateway) => placesAlone(stage, gateway, places, share(PLACES))),
    ...gateways.map((gateway) => fewAlone(stage, gateway, few)),
    ...gateways.map(async (gateway) => {
      if ((await degradedMetric(gateway)) !== 1)
        stage.problem(`Redis lost: the metric of ${gateway.name} does not say so`);
    }),
  ]);
  await sleep(Math.max(0, lostAt + lostMs - Date.now()), undefined, { signal: stage.stopping }).catch(() => {});
  // As long as it takes everybody to want his share of every gateway.
  const lost: Lost = { stage, book, keys, lostAt, share };
  await until(async () => leastOfShares(lost, Date.now()) >= 1);
  const startedAt = Date.now();
  await redis.start();
  if (!(await all(gateways, (gateway) => isAlone(gateway, probe, false))))
    stage.problem('Redis back: not every gateway says so');
  for (const gateway of gateways)
    // A machine that is busy elsewhere may make it say otherwise for a moment.
    if ((await until(async () => (await degradedMetric(gateway)) === 0)) === undefined)
      stage.problem(`Redis back: the metric of ${gateway.name} does not say so`);
  const backAt = Date.now();
  // Two windows: one in which what was admitted before leaves, one that is all its own.
  await sleep(2 * times.windowMs + 1_000, undefined, { signal: stage.stopping }).catch(() => {});
  over.abort();
  await pressed;
  return judge(lost, startedAt, backAt);
}

const thirsty = (key: IssuedKey): IssuedKey => ({ ...key, users: 6, demand: 18 });

async function all(gateways: readonly Gateway[], is: (gateway: Gateway) => Promise<boolean>): Promise<boolean> {
  const took = await Promise.all(gateways.map((gateway) => until(() => is(gateway))));
  return took.every((ms) => ms !== undefined);
}

async function isAlone(gateway: Gateway, probe: IssuedKey, wanted: boolean): Promise<boolean> {
  const { status, degraded } = await new Clerk([gateway]).small(probe);
  return status === 200 && degraded === wanted;
}

async function placesAlone(stage: Stage, gateway: Gateway, key: IssuedKey, share: number): Promise<void> {
  const streams = new Streams();
  for (let i = 0; i < share + WANTED; i++) await streams.open(gateway, key);
  if (streams.asked.length !== share)
    stage.problem(`Redis lost: ${gateway.name} gave ${streams.asked.length} places; its share is ${share}`);
  await streams.close();
}

/** A limit below the number of gateways: one at each of them, not none. */
async function fewAlone(stage: Stage, gateway: Gateway, key: IssuedKey): Promise<void> {
  const clerk = new Clerk([gateway]);
  let got = 0;
  for (let i = 0; i < WANTED;) {
    const call = await clerk.small(key);
    if (!decided(call)) continue;
    i++;
    got += admitted(call) ? 1 : 0;
  }
  if (got !== 1) stage.problem(`Redis lost: ${gateway.name} admitted ${got} of a limit of ${FEW} for all`);
}

async function degradedMetric({ url }: Gateway): Promise<number> {
  const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) });
  const text = await response.text();
  return Number(/^sluice_gateway_rate_limiter_degraded(?:\{[^}]*\})? (\S+)$/m.exec(text)?.[1] ?? Number.NaN);
}

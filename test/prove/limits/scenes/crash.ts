// A gateway dies with places in flight. They are nobody's until their lease ends, and everybody's then.
import type { IssuedKey } from '../caller.ts';
import { keyWith, oneMore, outcome, Streams, until, type Stage } from '../stage.ts';

export interface Crash {
  /** Places that the dead gateway had. */
  readonly places: number;
  /** Milliseconds from the kill until all of them were taken again, of the slowest key; null: never. */
  readonly freedMs: number | null;
}

/** @param victim index of the gateway to kill */
export async function crash(stage: Stage, victim: number): Promise<Crash> {
  const { gateways } = stage.cluster;
  const others = gateways.filter(({ index }) => index !== victim);
  const keys = [
    { key: await keyWith(stage, 'crash-1', { concurrency: 1 }), places: 1 },
    { key: await keyWith(stage, 'crash-3', { concurrency: 3, rpm: 10_000 }), places: 3 },
    { key: await keyWith(stage, 'crash-shared', { concurrency: 6 }, { concurrency: 4 }), places: 4 },
  ];
  const streams = new Streams();
  try {
    for (const { key, places } of keys) {
      for (let i = 0; i < places; i++) {
        const call = await streams.open(gateways[victim]!, key);
        if (call.status !== 200) stage.problem(`crash: ${key.name} did not get its place: ${outcome(call)}`);
      }
      await oneMore(stage, streams, others[0]!, key);
    }
    gateways[victim]!.process.kill('SIGKILL');
    const freed = await Promise.all(keys.map(({ key, places }) => takeAll(stage, streams, key, places, victim)));
    const slowest = freed.some((ms) => ms === undefined) ? null : Math.max(...(freed as number[]));
    return { places: keys.reduce((sum, { places }) => sum + places, 0), freedMs: slowest };
  } finally {
    await streams.close();
    await gateways[victim]!.process.ready(60_000);
    await stage.cluster.whenLeased();
  }
}

/** Takes the places as they become free, and no more than there are. */
async function takeAll(stage: Stage, streams: Streams, key: IssuedKey, places: number, victim: number) {
  const others = stage.cluster.gateways.filter(({ index }) => index !== victim);
  let taken = 0;
  const ms = await until(async () => {
    while (taken < places && (await streams.open(others[taken % others.length]!, key)).status === 200) taken++;
    return taken === places;
  });
  if (ms !== undefined) await oneMore(stage, streams, others[0]!, key);
  return ms;
}

// After the load everybody asks for all the places that he may have: none of them is lost.
import type { IssuedKey } from '../caller.ts';
import { Clerk, oneMore, Streams, until, type Stage } from '../stage.ts';

/** @param keys with limits of places and no other */
export async function rollCall(
  stage: Stage,
  keys: readonly IssuedKey[],
  patienceMs: number,
): Promise<{ places: number }> {
  const counts = await Promise.all(keys.map((key) => allOf(stage, key, patienceMs)));
  return { places: counts.reduce((sum, count) => sum + count, 0) };
}

async function allOf(stage: Stage, key: IssuedKey, patienceMs: number): Promise<number> {
  const clerk = new Clerk(stage.cluster.gateways);
  const places = key.scopes[0]!.concurrency!;
  const streams = new Streams();
  try {
    let taken = 0;
    // The last of the load are given back in the background.
    await until(async () => {
      while (taken < places && (await streams.open(clerk.next(), key)).status === 200) taken++;
      return taken === places;
    }, patienceMs);
    if (taken < places) stage.problem(`roll call: ${key.name} has ${places} places and could take ${taken}`);
    else await oneMore(stage, streams, clerk.next(), key);
    return taken;
  } finally {
    await streams.close();
  }
}

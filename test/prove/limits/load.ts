import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '../revocation/cluster.ts';
import type { Random } from '../runner/random.ts';
import type { Book } from './book.ts';
import { ask, type IssuedKey, type Shape } from './caller.ts';

/** What the simulated workers of the cluster take for a token. */
export const TOKEN_MS = 40;
const LONG_SHARE = 0.04;
const BURST_SHARE = 0.03;
const BURST = 8;
/** A gateway that is dead is left alone this long. */
const DEAD_MS = 100;

export interface Pressure {
  readonly signal: AbortSignal;
  /** Answers that last this long outlive the lease of their place. */
  readonly longMs: number;
}

/** The users of one key, who want more than it may, at all gateways in turn, until they are told to stop. */
export async function press(
  cluster: Cluster,
  key: IssuedKey,
  book: Book,
  random: Random,
  { signal, longMs }: Pressure,
) {
  const { gateways } = cluster;
  const pauseMs = (1_000 * key.users) / key.demand;
  let turn = Math.floor(random.next() * gateways.length);
  const once = async (shape: Shape): Promise<void> => {
    const asked = ask(gateways[turn++ % gateways.length]!, key, shape);
    book.note(asked.call);
    const { unsent } = await asked.end;
    if (unsent) await sleep(DEAD_MS);
  };
  const user = async (chance: Random): Promise<void> => {
    // Not all at the same moment.
    await pause(chance.between(0, pauseMs), signal);
    while (!signal.aborted) {
      const from = performance.now();
      const times = chance.next() < BURST_SHARE ? BURST : 1;
      await Promise.all(Array.from({ length: times }, () => once(shapeOf(key, longMs, chance))));
      await pause(chance.between(0.2, 1.8) * pauseMs - (performance.now() - from), signal);
    }
  };
  await Promise.all(Array.from({ length: key.users }, (_, i) => user(random.fork(`user ${i}`))));
}

function shapeOf({ streams, long }: IssuedKey, longMs: number, random: Random): Shape {
  const tokens = (min: number, max: number) => Math.round(random.between(min, max));
  if (long && random.next() < LONG_SHARE)
    return { promptTokens: 1, answerTokens: Math.ceil(longMs / TOKEN_MS), stream: true };
  if (streams) return { promptTokens: tokens(1, 15), answerTokens: tokens(8, 35), stream: true };
  return { promptTokens: tokens(1, 55), answerTokens: tokens(1, 3), stream: random.next() < 0.5 };
}

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  sleep(Math.max(1, milliseconds), undefined, { signal }).catch(() => {});

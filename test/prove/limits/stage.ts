import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, Gateway } from '../revocation/cluster.ts';
import type { Random } from '../runner/random.ts';
import type { Times } from './book.ts';
import { ask, type Asked, type Call, type IssuedKey, type Shape } from './caller.ts';
import { HOME, NO_LIMITS, type Limits, type PlannedKey, type Scope } from './plan.ts';
import type { Registry } from './setup.ts';

/** What a scene has to play with, and what it found wrong. */
export interface Stage {
  readonly cluster: Cluster;
  readonly registry: Registry;
  readonly times: Times;
  readonly random: Random;
  readonly stopping: AbortSignal;
  /** Something is not as it has to be. */
  readonly problem: (what: string) => void;
}

/** For what comes in the end; how long it takes is a figure and no failure. */
const PATIENCE_MS = 60_000;

/** A key of its own, and, where they are given, limits of a project of its own. */
export function keyWith(stage: Stage, name: string, limits: Partial<Limits>, project?: Partial<Limits>) {
  const own: Scope = { kind: 'key', name, ...NO_LIMITS, ...limits };
  const above: Scope[] = project ? [{ kind: 'project', name: `${name}-project`, ...NO_LIMITS, ...project }] : [];
  const planned: PlannedKey = {
    name,
    scopes: [own, ...above],
    organization: HOME,
    project: project ? `${name}-project` : 'default',
    demand: 1,
    users: 1,
    streams: false,
    long: false,
  };
  return stage.registry.issue(planned);
}

/** A small request, at one gateway after the other. */
export class Clerk {
  private turn = 0;
  private readonly gateways: readonly Gateway[];

  constructor(gateways: readonly Gateway[]) {
    this.gateways = gateways;
  }

  next(): Gateway {
    return this.gateways[this.turn++ % this.gateways.length]!;
  }

  /** @param tokens of prompt and answer together, at least 2 */
  small(key: IssuedKey, tokens = 2): Promise<Call> {
    return ask(this.next(), key, { promptTokens: tokens - 1, answerTokens: 1, stream: false }).end;
  }
}

/** Streams that stay open until they are let go. */
export class Streams {
  readonly asked: Asked[] = [];
  private readonly letGo = new AbortController();
  private readonly shape: Shape;

  /** @param answerTokens more than anybody waits for */
  constructor(answerTokens = 20_000) {
    this.shape = { promptTokens: 1, answerTokens, stream: true };
  }

  /** @returns as soon as it is known whether it was admitted; tries again as long as nobody says */
  async open(gateway: Gateway, key: IssuedKey): Promise<Call> {
    for (const from = performance.now(); ; await sleep(100)) {
      const asked = ask(gateway, key, this.shape, this.letGo.signal);
      const call = await asked.head;
      if (call.status === 200) this.asked.push(asked);
      if (decided(call) || performance.now() - from > PATIENCE_MS) return call;
    }
  }

  async close(): Promise<void> {
    this.letGo.abort();
    await Promise.all(this.asked.map(({ end }) => end));
  }
}

/** One place more than there are; what a gateway gives alone, when Redis is late, is of its share. */
export async function oneMore(stage: Stage, streams: Streams, gateway: Gateway, key: IssuedKey): Promise<void> {
  const call = await streams.open(gateway, key);
  if (call.status === 200 && !call.degraded) stage.problem(`${key.name} has all its places and got one more`);
}

/** @returns milliseconds that it took; undefined when it did not come about */
export async function until(condition: () => Promise<boolean>, patienceMs = PATIENCE_MS): Promise<number | undefined> {
  const from = performance.now();
  for (;;) {
    if (await condition()) return Math.round(performance.now() - from);
    if (performance.now() - from > patienceMs) return undefined;
    await sleep(100);
  }
}

/** The limits were asked, and nothing else went wrong: a busy machine has other answers too. */
export const decided = ({ status }: Call): boolean => status === 200 || status === 429;

/** What a call came to, in a few words. */
export const outcome = ({ status, refusal, text }: Call): string =>
  refusal
    ? `${refusal.of}:${refusal.by}`
    : status === 200
      ? 'admitted'
      : `${status ?? 'no answer'} ${text.slice(0, 120)}`;

import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../runner/random.ts';
import { send } from './client.ts';
import type { Checker, Victim } from './checker.ts';
import type { Cluster, Gateway } from './cluster.ts';
import type { Kind } from './kinds.ts';

/** A stream that is still open this long after the return, on a gateway that runs, was not cut. */
const UNCUT_MS = 10_000;
const STREAM_MS = 60_000;

/** Milliseconds between two calls of one user. */
export interface Pace {
  readonly beforeMs: number;
  readonly duringMs: number;
  /** After the return: when each gateway is tried again. */
  readonly afterMs: readonly number[];
}

/** The users of one victim: one at each gateway, from before its end until well after it. */
export class Users {
  revoking = false;
  private readonly done: Promise<unknown>;
  private readonly stop = new AbortController();
  private readonly victim: Victim;
  private readonly kind: Kind;
  private readonly checker: Checker;
  private readonly random: Random;
  private readonly pace: Pace;

  constructor(cluster: Cluster, victim: Victim, kind: Kind, checker: Checker, random: Random, pace: Pace) {
    this.victim = victim;
    this.kind = kind;
    this.checker = checker;
    this.random = random;
    this.pace = pace;
    this.done = Promise.all(cluster.gateways.map((gateway) => this.use(gateway)));
  }

  /** Resolves when everybody has tried for the last time. */
  async finished(): Promise<void> {
    await this.done;
  }

  abandon(): void {
    this.stop.abort();
  }

  private async use(gateway: Gateway): Promise<void> {
    const { victim, kind, pace, random } = this;
    while (kind.cold === true && !this.revoking && !this.stop.signal.aborted) await this.pause(5);
    while (victim.deadAt === undefined && !this.stop.signal.aborted) {
      const call = this.call(gateway);
      // A stream in flight does not keep its user from trying again once the key is dead.
      if (kind.what === 'stream') void this.watchCut(gateway, call);
      if (kind.what === 'stream') await Promise.race([call, this.untilDead()]);
      else await call;
      await this.pause((this.revoking ? pace.duringMs : pace.beforeMs) * random.between(0.5, 1.5));
    }
    if (victim.deadAt === undefined) return;
    const late: Promise<unknown>[] = [];
    for (const after of pace.afterMs) {
      await sleep(Math.max(0, victim.deadAt + after - performance.now()));
      // Not one after the other: a stopped gateway gets them all when it wakes.
      late.push(this.call(gateway));
    }
    await Promise.all(late);
  }

  private async call(gateway: Gateway): Promise<void> {
    const { victim, kind, checker, random } = this;
    const watch = checker.begin(victim, gateway, kind.what);
    const timeoutMs = kind.what === 'stream' ? STREAM_MS : undefined;
    const answer = await send(gateway, kind.call(victim, random.pick(victim.secrets)), watch, timeoutMs);
    watch.end(answer !== undefined);
  }

  private async watchCut(gateway: Gateway, call: Promise<void>): Promise<void> {
    const ended = call.then(() => true);
    if ((await Promise.race([ended, this.untilDead()])) === true || this.victim.deadAt === undefined) return;
    const cut = await Promise.race([ended, sleep(UNCUT_MS, false)]);
    if (!cut) this.checker.report('uncut', this.victim, gateway.name);
  }

  private async untilDead(): Promise<void> {
    while (this.victim.deadAt === undefined && !this.stop.signal.aborted) await this.pause(20);
  }

  private async pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.stop.signal }).catch(() => {});
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../runner/random.ts';
import type { Checker, Victim } from '../checker.ts';
import { send } from '../client.ts';
import type { Cluster, Gateway } from '../cluster.ts';
import { Desk } from '../desk.ts';
import { KINDS, type Kind } from '../kinds.ts';
import { Revoker, type Answer } from '../revoker.ts';

/** A revoke that some gateway did not confirm takes L + margin, here with what the machine adds. */
export const WAITED_MIN_MS = 2_000;
export const WAITED_MAX_MS = 3_000;
const WARM_MS = 10_000;

/** A race that chance would seldom meet, made to happen. */
export interface Scenario {
  readonly name: string;
  readonly about: string;
  play(stage: Stage): Promise<void>;
}

export interface Subject {
  readonly victim: Victim;
  readonly kind: Kind;
}

/** What scenarios are made of. A gateway `a` carries the commands and stays sound; `c` is the one things happen to. */
export class Stage {
  readonly problems: string[] = [];
  readonly cluster: Cluster;
  readonly checker: Checker;
  readonly desk: Desk;
  readonly a: Gateway;
  readonly c: Gateway;
  private readonly revoker: Revoker;
  private readonly random: Random;

  constructor(cluster: Cluster, checker: Checker, random: Random) {
    this.cluster = cluster;
    this.checker = checker;
    this.random = random;
    this.a = cluster.gateways[0]!;
    this.c = cluster.gateways.at(-1)!;
    this.desk = new Desk(cluster, random, (gateway) => gateway === this.c);
    this.revoker = new Revoker(this.desk, checker);
  }

  /** Something other than a violation that is not as promised. */
  problem(text: string): void {
    this.problems.push(`${this.checker.where}: ${text}`);
  }

  async subject(name: string): Promise<Subject> {
    const kind = KINDS.find((one) => one.name === name)!;
    return { victim: this.checker.add(name, await kind.make(this.desk)), kind };
  }

  /** One call, watched by the checker. */
  async call({ victim, kind }: Subject, gateway: Gateway): Promise<number | undefined> {
    const watch = this.checker.begin(victim, gateway, kind.what);
    const answer = await send(gateway, kind.call(victim, victim.secrets[0]!), watch, 30_000);
    watch.end(answer !== undefined);
    return answer?.status;
  }

  /** Until this gateway has accepted it: the key is known there. */
  async warm(subject: Subject, ...gateways: Gateway[]): Promise<void> {
    const until = performance.now() + WARM_MS;
    for (const gateway of gateways)
      while ((await this.call(subject, gateway)) !== 200) {
        if (performance.now() > until) throw new Error(`${gateway.name} does not accept a sound key`);
        await sleep(50);
      }
  }

  /** Calls again and again, each without waiting for the one before. @returns how to stop, and wait for the answers */
  hammer(subject: Subject, gateway: Gateway, everyMs = 40): () => Promise<void> {
    const calls: Promise<unknown>[] = [];
    const timer = setInterval(() => calls.push(this.call(subject, gateway)), everyMs);
    return async () => {
      clearInterval(timer);
      await Promise.all(calls);
    };
  }

  /** One revoke by `a`. */
  async revoke({ victim, kind }: Subject): Promise<{ said: Answer; ms: number }> {
    const from = performance.now();
    const said = await this.revoker.once(victim, kind, 0, this.a);
    return { said, ms: performance.now() - from };
  }

  /** Asks once whether a pending revoke is in force by now. */
  async status({ victim, kind }: Subject): Promise<Answer> {
    return this.revoker.ask(victim, kind, this.a);
  }

  async revokeUntilInForce({ victim, kind }: Subject): Promise<void> {
    if (victim.deadAt === undefined) await this.revoker.revoke(victim, kind, this.random);
  }

  /** A revoke that can't be confirmed by `c`: in force after L + margin and not sooner, or pending. */
  async revokeUnheardBy(subject: Subject): Promise<void> {
    const { said, ms } = await this.revoke(subject);
    if (said === 'in force' && (ms < WAITED_MIN_MS || ms > WAITED_MAX_MS))
      this.problem(`in force after ${Math.round(ms)} ms although a gateway could not confirm it`);
    if (said === 'nothing') this.problem('the revoke was not answered');
    await this.revokeUntilInForce(subject);
  }

  /** Nothing tells this gateway of a revoke: neither the feed nor a push. */
  deafen({ links }: Gateway): void {
    links.nats.down.hold();
    links.push.hold();
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../runner/random.ts';
import type { Checker, Victim } from './checker.ts';
import { dataOf } from './client.ts';
import type { Gateway } from './cluster.ts';
import type { Desk } from './desk.ts';
import type { Faults } from './faults.ts';
import type { Kind } from './kinds.ts';

const PATIENCE_MS = 90_000;
const REVOKE_MS = 15_000;
const AGAIN_MS = 200;

/** What came of one answer to a revoke. */
export type Answer = 'in force' | 'pending' | 'nothing';

/** A revoke that was answered with "in force". */
export interface Timed {
  readonly kind: string;
  /** Milliseconds at the client. */
  readonly ms: number;
  /** Milliseconds of them that auth says it took to reach every gateway. */
  readonly reachMs: number;
}

/** Revokes, and repeats what was not said to be in force. */
export class Revoker {
  readonly times: Timed[] = [];
  /** Of those during which auth or the gateway that carried the command was itself stopped, dead or cut off from the other. */
  readonly hinderedTimes: Timed[] = [];
  pending = 0;
  /** Answers that were neither, by their status. */
  readonly failed: Record<string, number> = {};
  /** Revokes that were pending and of which a later question learned that they are in force. */
  confirmedLater = 0;
  /** Revokes that were never said to be in force: nothing is claimed of them. */
  unconfirmed = 0;
  private readonly desk: Desk;
  private readonly checker: Checker;
  private readonly faults: Faults | undefined;

  constructor(desk: Desk, checker: Checker, faults?: Faults) {
    this.desk = desk;
    this.checker = checker;
    this.faults = faults;
  }

  /** Until it is in force: what was pending is asked about, or done again. */
  async revoke(victim: Victim, kind: Kind, random: Random): Promise<void> {
    let said: Answer = 'nothing';
    const until = performance.now() + PATIENCE_MS;
    for (let attempt = 0; performance.now() < until; attempt++) {
      const asks: boolean = said === 'pending' && kind.status !== undefined && random.next() < 0.5;
      const now: Answer = asks ? await this.ask(victim, kind) : await this.once(victim, kind, attempt);
      if (now === 'in force') return;
      // No answer to a question does not make a pending revoke anything else.
      if (!asks || now === 'pending') said = now;
      await sleep(AGAIN_MS);
    }
    this.unconfirmed++;
  }

  async once(victim: Victim, kind: Kind, attempt: number, via: Gateway = this.desk.gateway()): Promise<Answer> {
    victim.note(`revoke by ${via.name}`);
    const from = performance.now();
    const answer = await this.desk.once(kind.revoke(victim, this.desk, attempt), via, REVOKE_MS);
    const ms = performance.now() - from;
    const said = readAnswer(answer);
    if (said === 'in force') {
      await this.checker.dead(victim);
      const hindered = this.faults?.hindered(['auth', via.name, via.links.auth.name], from) ?? false;
      const timed = { kind: kind.name, ms, reachMs: reachOf(answer!.text) };
      (hindered ? this.hinderedTimes : this.times).push(timed);
    } else if (said === 'pending') this.pending++;
    else {
      const what = answer === undefined ? 'no answer' : String(answer.status);
      this.failed[what] = (this.failed[what] ?? 0) + 1;
    }
    note(victim, 'revoke', ms, answer);
    return said;
  }

  /** Whether a pending revoke is in force by now, as auth goes on with it by itself. */
  async ask(victim: Victim, kind: Kind, via: Gateway = this.desk.gateway()): Promise<Answer> {
    const from = performance.now();
    const answer = await this.desk.once(kind.status!(victim, this.desk), via);
    const said = answer?.status === 200 ? readAnswer(answer) : 'nothing';
    if (said === 'in force') {
      await this.checker.dead(victim);
      this.confirmedLater++;
    }
    note(victim, 'status', performance.now() - from, answer);
    return said;
  }
}

function note(victim: Victim, what: string, ms: number, answer: { status: number; text: string } | undefined): void {
  const text = answer?.text.replace(/"apiKey":"[^"]*"/, '"apiKey":"…"').slice(-200) ?? '';
  victim.note(`${what}: ${answer?.status ?? 'no answer'} after ${ms.toFixed(1)} ms ${text}`);
}

function readAnswer(answer: { status: number; text: string } | undefined): Answer {
  if (answer?.status === 202) return 'pending';
  if (answer?.status !== 200) return 'nothing';
  const { inForce } = dataOf<{ inForce?: { confirmed: number; of: number; ms: number } | 'pending' }>(answer.text);
  if (inForce === 'pending') return 'pending';
  if (typeof inForce?.of !== 'number') throw new Error(`a revoke says neither in force nor pending: ${answer.text}`);
  return 'in force';
}

const reachOf = (text: string): number => dataOf<{ inForce: { ms: number } }>(text).inForce.ms;

import { setTimeout as sleep } from 'node:timers/promises';
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

/** Revokes, and repeats what was not said to be in force. */
export class Revoker {
  /** Milliseconds of every answer that said "in force". */
  readonly times: number[] = [];
  /** Of those during which auth or the gateway that carried the command was itself stopped, dead or cut off from the other. */
  readonly hinderedTimes: number[] = [];
  pending = 0;
  failed = 0;
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

  /** Until it is in force. */
  async revoke(victim: Victim, kind: Kind): Promise<void> {
    for (const until = performance.now() + PATIENCE_MS; performance.now() < until; await sleep(AGAIN_MS))
      if ((await this.once(victim, kind)) === 'in force') return;
    this.unconfirmed++;
  }

  async once(victim: Victim, kind: Kind, via: Gateway = this.desk.gateway()): Promise<Answer> {
    victim.note(`revoke by ${via.name}`);
    const from = performance.now();
    const answer = await this.desk.once(kind.revoke(victim, this.desk), via, REVOKE_MS);
    const ms = performance.now() - from;
    const said = readAnswer(answer);
    if (said === 'in force') {
      await this.checker.dead(victim);
      const hindered = this.faults?.hindered(['auth', via.name, via.links.auth.name], from) ?? false;
      (hindered ? this.hinderedTimes : this.times).push(ms);
    } else if (said === 'pending') this.pending++;
    else this.failed++;
    victim.note(
      `revoke: ${answer?.status ?? 'no answer'} after ${ms.toFixed(1)} ms ${answer?.text.slice(0, 200) ?? ''}`,
    );
    return said;
  }
}

function readAnswer(answer: { status: number; text: string } | undefined): Answer {
  if (answer?.status === 202) return 'pending';
  if (answer?.status !== 200) return 'nothing';
  const { inForce } = dataOf<{ inForce?: { confirmed: number; of: number; ms: number } | 'pending' }>(answer.text);
  if (inForce === 'pending') return 'pending';
  if (typeof inForce?.of !== 'number') throw new Error(`a revoke says neither in force nor pending: ${answer.text}`);
  return 'in force';
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown } from '@nestjs/common';
import { EVIDENCE_MARGIN_MS, EVIDENCE_MS, type InForce, type Invalidation } from '@sluice/contracts/auth';
import { enqueue, type OutboxMessage, type OutboxRelay } from '@sluice/event-store';
import type { Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor, type ServiceTokens } from '@sluice/service-kit';
import { sql } from 'kysely';
import { Counter, Histogram } from 'prom-client';
import { invalidationMessage } from '../keys/invalidation.js';
import { GatewayRow, type Gateway } from './gateway.entity.js';
import { PendingStore } from './pending.store.js';
import { TombstoneClient } from './tombstone.client.js';

const WAIT_MS = EVIDENCE_MS + EVIDENCE_MARGIN_MS;
/**
 * When a revoke that is not in force yet is answered with "pending", counted from its start: late enough for a wait that
 * began at once, early enough for an answer at the client's within L + 1 s.
 */
const ANSWER_MS = WAIT_MS + 250;
const ACK_POLL_MS = 50;

/** The messages of a revoke, and whether the broker acknowledged them at once (false: the sweeper goes on). */
export interface Sent {
  readonly outbox: readonly OutboxMessage[];
  readonly published: Promise<boolean>;
}

/** What is waited for: the rows of the outbox (null: unknown, never seen acknowledged), unless they are published already. */
export interface Announced {
  readonly rows: readonly (string | null)[];
  readonly published: Promise<boolean>;
}

export type Reached = { readonly inForce: InForce } | { readonly pending: true };

/** How many gateways of how many said so themselves. */
type Confirmed = Omit<InForce, 'ms'>;

/**
 * Makes a revocation be in force everywhere before it is answered. Either every registered gateway says itself that
 * this version of the key is dead there, or those that did not have run out of evidence: the invalidation was stored
 * by the broker, and L + margin has passed since.
 *
 * Why that is enough. A look-up that read the key alive was sent before the commit, and counts for L from there. A feed
 * lease counts for L from when its barrier was sent; a barrier sent after the broker had stored the invalidation comes
 * back behind it. Both are over L after the PubAck, which is not before the commit; the margin is for clocks that run
 * at different speeds. Two gateways may be missing in the list, which is read after the commit: one that registers
 * later sends its first look-up later still, and reads the key dead; one that is retired holds no evidence (see
 * GatewayReaper). A retiring one counts like any other.
 */
@Injectable()
export class InForceService implements OnApplicationShutdown {
  private readonly log = loggerFor('in-force');
  /** Milliseconds from the PubAck until nobody has evidence left, and from a revoke's start until "pending" is answered. */
  readonly times = { evidenceMs: WAIT_MS, answerMs: ANSWER_MS };
  private readonly gateways: TombstoneClient;
  private readonly pending: PendingStore;
  private readonly duration = new Histogram({
    name: 'auth_revoke_in_force_seconds',
    help: 'Seconds from a revoke to its answer: in force by every confirmation, by waiting, or pending',
    labelNames: ['how'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 3, 5],
  });
  private readonly pendings = new Counter({
    name: 'auth_revokes_pending_total',
    help: 'Revokes that were answered with "pending"',
  });

  constructor(
    private readonly em: EntityManager,
    private readonly relay: OutboxRelay,
    tokens: ServiceTokens,
    private readonly clock: Clock,
  ) {
    this.gateways = new TombstoneClient(tokens);
    this.pending = new PendingStore(em);
  }

  /**
   * Comes back when it is in force, or with "pending" after `times.answerMs`: then PendingWorker goes on, also after a restart.
   * A process that dies before has answered nothing, so nothing was promised.
   * @param invalidations what each gateway has to confirm; committed before this is called
   * @param sent the invalidations in the outbox, and whether the broker acknowledged them at once
   * @param startedAt monotonic milliseconds
   */
  async reach(invalidations: readonly Invalidation[], sent: Sent, startedAt: number): Promise<Reached> {
    const rows = sent.outbox.filter(({ subject }) => subject.startsWith('keyfeed.')).map(({ row }) => row);
    const announced = { rows, published: sent.published };
    const confirmed = await this.attempt(invalidations, announced, startedAt + this.times.answerMs);
    const ms = Math.round(this.clock.monotonic() - startedAt);
    if (!confirmed) {
      await this.pending.remember(invalidations, sent.outbox);
      this.pendings.inc();
      this.duration.observe({ how: 'pending' }, ms / 1000);
      return { pending: true };
    }
    this.duration.observe({ how: confirmed.confirmed < confirmed.of ? 'waited' : 'confirmed' }, ms / 1000);
    // An earlier answer may have been "pending".
    await this.pending.settle(invalidations, confirmed).catch((err: unknown) => {
      this.log.warn({ err }, 'a revoke is in force; what was pending is found out again');
    });
    return { inForce: { ...confirmed, ms } };
  }

  /** The whole procedure once more, for a revoke that was committed before: the first may have ended half way. */
  async announceAgain(invalidations: readonly Invalidation[], startedAt: number): Promise<Reached> {
    const again = invalidations.map((invalidation) => invalidationMessage(systemId(), invalidation));
    const messages = await this.em.fork().transactional((tx) => enqueue(tx, again));
    return this.reach(invalidations, { outbox: messages, published: this.relay.publish(messages) }, startedAt);
  }

  /** What became of the last revoke of this id that was answered with "pending"; undefined: none in the last 24 h. */
  async statusOf(id: string): Promise<InForce | 'pending' | undefined> {
    return this.pending.statusOf(id);
  }

  /**
   * Once through the procedure. Pushes and the wait run at the same time: a gateway that hangs makes it take L + margin
   * from the PubAck, and not longer.
   * @param until monotonic milliseconds at which it is given up
   * @returns undefined when it is not in force, as far as is known
   */
  async attempt(
    invalidations: readonly Invalidation[],
    announced: Announced,
    until: number,
  ): Promise<Confirmed | undefined> {
    const end = new AbortController();
    try {
      const waited = this.evidenceIsOver(announced, end.signal);
      const gateways = await this.registered();
      let confirmed = 0;
      const pushes = gateways.map(async (gateway) => {
        const dead = await this.gateways.confirmed(gateway, invalidations, end.signal);
        if (dead) confirmed += 1;
        return dead;
      });
      const allConfirmed = Promise.all(pushes).then((all) => all.every(Boolean) || waited);
      const inForce = await Promise.race([allConfirmed, waited, this.givenUp(until, end.signal)]);
      return inForce ? { confirmed, of: gateways.length } : undefined;
    } finally {
      end.abort();
    }
  }

  async onApplicationShutdown(): Promise<void> {
    await this.gateways.close();
  }

  private registered(): Promise<Gateway[]> {
    return this.em.fork().find(GatewayRow, { retiredAt: null });
  }

  /** True once L + margin has passed since the broker had stored every invalidation. */
  private async evidenceIsOver({ rows, published }: Announced, signal: AbortSignal): Promise<boolean> {
    // Published at once, or later by the sweeper, which is seen by the rows being gone.
    let acknowledged = await published;
    while (!acknowledged && !signal.aborted) {
      acknowledged = await this.isGone(rows).catch(() => false);
      if (!acknowledged) await sleep(ACK_POLL_MS, undefined, { signal }).catch(() => {});
    }
    await sleep(this.times.evidenceMs, undefined, { signal }).catch(() => {});
    return !signal.aborted;
  }

  private async isGone(rows: readonly (string | null)[]): Promise<boolean> {
    const known = rows.filter((row) => row !== null);
    if (known.length < rows.length) return false;
    // One parameter, however many they are.
    const left = sql`select 1 from outbox where id = any(${known}::bigint[]) limit 1`;
    return (await left.execute(this.em.fork().getKysely())).rows.length === 0;
  }

  private async givenUp(until: number, signal: AbortSignal): Promise<false> {
    await sleep(Math.max(0, until - this.clock.monotonic()), undefined, { signal }).catch(() => {});
    return false;
  }
}

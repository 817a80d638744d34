import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import {
  EVIDENCE_MARGIN_MS,
  EVIDENCE_MS,
  tombstonesResponseSchema,
  type InForce,
  MAX_TOMBSTONES,
  type Invalidation,
} from '@sluice/contracts/auth';
import { enqueue, OutboxRow, type OutboxMessage, type OutboxRelay } from '@sluice/event-store';
import type { Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor, type ServiceTokens } from '@sluice/service-kit';
import { Histogram } from 'prom-client';
import { Agent, request } from 'undici';
import { invalidationMessage } from '../keys/invalidation.js';
import { GatewayRow, type Gateway } from './gateway.entity.js';

const PUSH_TIMEOUT_MS = 1_000;
/** How long a DELETE waits for the broker before it says "pending". */
const ACK_TIMEOUT_MS = 3_000;
const ACK_POLL_MS = 100;

/** The messages of a revoke, and whether the broker acknowledged them at once (false: the sweeper goes on). */
export interface Sent {
  readonly outbox: readonly OutboxMessage[];
  readonly published: Promise<boolean>;
}

export type Reached = { readonly inForce: InForce } | { readonly pending: true };

/**
 * Makes a revocation be in force everywhere before it is answered. Either every registered gateway says itself that
 * this version of the key is dead there, or those that did not have run out of evidence: the invalidation was stored
 * by the broker, and L + margin has passed since.
 */
@Injectable()
export class InForceService {
  private readonly log = loggerFor('in-force');
  private readonly agent = new Agent({ connect: { timeout: PUSH_TIMEOUT_MS }, connections: 4 });
  private readonly duration = new Histogram({
    name: 'auth_revoke_in_force_seconds',
    help: 'Seconds from a revoke to its being in force at every gateway',
    labelNames: ['how'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 3, 5],
  });

  constructor(
    private readonly em: EntityManager,
    private readonly relay: OutboxRelay,
    private readonly tokens: ServiceTokens,
    private readonly clock: Clock,
  ) {}

  /**
   * @param invalidations what each gateway has to confirm
   * @param sent the invalidations in the outbox, and whether the broker acknowledged them at once
   * @param startedAt monotonic milliseconds
   */
  async reach(invalidations: readonly Invalidation[], sent: Sent, startedAt: number): Promise<Reached> {
    const acknowledgedAt = this.acknowledged(sent);
    const gateways = await this.registered();
    const confirmations = await Promise.all(gateways.map((gateway) => this.push(gateway, invalidations)));
    const confirmed = confirmations.filter(Boolean).length;
    if (confirmed < gateways.length && !(await this.waitForEvidenceToEnd(acknowledgedAt))) return { pending: true };
    const ms = Math.round(this.clock.monotonic() - startedAt);
    this.duration.observe({ how: confirmed < gateways.length ? 'waited' : 'confirmed' }, ms / 1000);
    return { inForce: { confirmed, of: gateways.length, ms } };
  }

  /** The whole procedure once more, for a revoke that was committed before. */
  async announceAgain(invalidations: readonly Invalidation[], startedAt: number): Promise<Reached> {
    const again = invalidations.map((invalidation) => invalidationMessage(systemId(), invalidation));
    const messages = await this.em.fork().transactional((tx) => enqueue(tx, again));
    return this.reach(invalidations, { outbox: messages, published: this.relay.publish(messages) }, startedAt);
  }

  private registered(): Promise<Gateway[]> {
    return this.em.fork().find(GatewayRow, { retiredAt: null });
  }

  private async waitForEvidenceToEnd(acknowledgedAt: Promise<number | undefined>): Promise<boolean> {
    const at = await acknowledgedAt;
    if (at === undefined) return false;
    await sleep(Math.max(0, at + EVIDENCE_MS + EVIDENCE_MARGIN_MS - this.clock.monotonic()));
    return true;
  }

  /**
   * When the broker had stored the invalidation at the latest (monotonic milliseconds): at once, or later by the sweeper,
   * which is seen by its rows being gone. Undefined when that did not happen in time.
   */
  private async acknowledged({ outbox, published }: Sent): Promise<number | undefined> {
    const until = this.clock.monotonic() + ACK_TIMEOUT_MS;
    if (await published) return this.clock.monotonic();
    const rows = outbox.map(({ row }) => row);
    while (this.clock.monotonic() < until) {
      await sleep(ACK_POLL_MS);
      if ((await this.em.fork().count(OutboxRow, { id: { $in: rows } })) === 0) return this.clock.monotonic();
    }
    return undefined;
  }

  /** True when this gateway process confirmed them, or is known to be gone because another process answers in its place. */
  private async push(gateway: Gateway, invalidations: readonly Invalidation[]): Promise<boolean> {
    for (let from = 0; from < invalidations.length; from += MAX_TOMBSTONES) {
      if (!(await this.pushSome(gateway, invalidations.slice(from, from + MAX_TOMBSTONES)))) return false;
    }
    return true;
  }

  private async pushSome(gateway: Gateway, asked: readonly Invalidation[]): Promise<boolean> {
    try {
      const response = await request(`${gateway.url}/internal/tombstones`, {
        method: 'POST',
        headers: { authorization: await this.tokens.headerFor('gateway'), 'content-type': 'application/json' },
        body: JSON.stringify({ tombstones: asked }),
        dispatcher: this.agent,
        signal: AbortSignal.timeout(PUSH_TIMEOUT_MS),
      });
      const text = await response.body.text();
      if (response.statusCode !== 200) return false;
      const { boot, tombstones } = tombstonesResponseSchema.parse(JSON.parse(text));
      if (boot !== gateway.boot) {
        await this.retire(gateway.boot);
        return true;
      }
      const confirmed = new Map(tombstones.map(({ id, version }) => [id, version]));
      return asked.every(({ id, version }) => (confirmed.get(id) ?? 0) >= version);
    } catch (err) {
      this.log.debug({ err, boot: gateway.boot }, 'a gateway did not confirm');
      return false;
    }
  }

  /** An id whose place another process has taken: a boot id stands for one listening process, and holds nothing now. */
  private async retire(boot: string): Promise<void> {
    await this.em.fork().nativeUpdate(GatewayRow, { boot }, { retiredAt: new Date(this.clock.now()) });
    this.log.info({ boot }, 'retired a gateway whose place another process took');
  }
}

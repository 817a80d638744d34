import { setTimeout as sleep } from 'node:timers/promises';
import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor } from '@sluice/service-kit';
import { sql } from 'kysely';
import { CLOCK } from '../clock.js';
import { expiryEntries, type LedgerTransaction } from '../ledger/ledger.js';
import { append, lockAccounts } from '../ledger/ledger.store.js';
import { hasExpired, type Lot } from '../ledger/lots.js';
import { tablesOf } from '../tables.js';

const EVERY_MS = 1_000;
const AFTER_FAILURE_MS = 10_000;
const ORGANIZATIONS = 100;

/**
 * Books what has expired, `available` → `expired`, in every process. Nothing waits for it: what has expired can't be spent
 * from its instant on, booked or not.
 */
@Injectable()
export class CreditExpiry {
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** @returns how many lots it booked as expired. @throws when something has to be tried again */
  async sweep(): Promise<number> {
    const now = this.clock.now();
    const { rows } = await sql<{ organization_id: string }>`
      select distinct organization_id from (
        select organization_id from credit_lots where open and expires_at <= ${rfc3339(now)}::timestamptz
        order by expires_at limit ${ORGANIZATIONS}
      ) due order by organization_id
    `.execute(tablesOf(this.em.fork()));
    // Each by itself: one that can't be booked must not hold up the others.
    const results: PromiseSettledResult<number>[] = [];
    for (const { organization_id: organizationId } of rows) {
      results.push(...(await Promise.allSettled([this.expire(organizationId, now)])));
    }
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return results.reduce((sum, result) => sum + (result.status === 'fulfilled' ? result.value : 0), 0);
  }

  /** Under the lock something is left of a lot for one process only: the next one finds nothing. */
  private async expire(organizationId: string, now: number): Promise<number> {
    return this.em.fork().transactional(async (em) => {
      const accounts = await lockAccounts(em, [organizationId], now);
      const expired = [...accounts.lots.values()].filter((lot) => hasExpired(lot, now));
      await append(
        em,
        accounts,
        expired.map((lot) => expiryOf(lot, systemId(), now)),
      );
      return expired.length;
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let pauseMs = EVERY_MS;
      try {
        const booked = await this.sweep();
        if (booked > 0) loggerFor('credit-expiry').info({ lots: booked }, 'credit has expired');
      } catch (err) {
        pauseMs = AFTER_FAILURE_MS;
        if (!signal.aborted) loggerFor('credit-expiry').warn({ err }, 'expired credit is still to be booked');
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
  }
}

/** A correction may bring something back after it has been booked: that expires under a key of its own. */
const expiryOf = (lot: Lot, id: string, now: number): LedgerTransaction => ({
  id,
  idempotencyKey: `expiry:${lot.id}:${id}`,
  payloadHash: lot.id,
  kind: 'expiry',
  organizationId: lot.organizationId,
  requestId: null,
  description: null,
  createdAt: now,
  entries: expiryEntries(lot.remaining),
  fromLot: lot.id,
});

import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import type { Price } from '@sluice/contracts/billing';
import { enqueue, type OutboxMessage } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { sql, type Selectable } from 'kysely';
import { CLOCK } from '../clock.js';
import { tablesOf, type Tables } from '../tables.js';
import { alreadySet, type PriceVersion, type SetPrice } from './price.decider.js';
import { priceContract, priceSetMessage } from './price.publisher.js';

@Injectable()
export class PricesStore {
  /** Versions never change, so what was read once is good for ever. Prices are set by hand: a few thousand at most. */
  private readonly versions = new Map<string, PriceVersion>();

  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /** The version that says so now; a new one where it was needed. Messages are to be published after this. */
  async set(command: SetPrice, correlationId: string): Promise<{ price: Price; messages: readonly OutboxMessage[] }> {
    return this.em.fork().transactional(async (em) => {
      // Two replicas that read the same file at the same time must not both find nothing.
      await sql`select pg_advisory_xact_lock(hashtextextended(${`price of ${command.model}`}, 0))`.execute(
        tablesOf(em),
      );
      const rows = await tablesOf(em).selectFrom('prices').selectAll().where('model', '=', command.model).execute();
      const now = this.clock.now();
      const existing = alreadySet(rows.map(priceVersion), command, now);
      if (existing) return { price: priceContract(existing), messages: [] };
      const made: PriceVersion = { ...command, version: systemId(), effectiveFrom: command.effectiveFrom ?? now };
      await tablesOf(em)
        .insertInto('prices')
        .values({
          version: made.version,
          model: made.model,
          input: String(made.prices.input),
          cached_input: String(made.prices.cachedInput),
          output: String(made.prices.output),
          audio_ms: String(made.prices.audioMs ?? 0n),
          effective_from: rfc3339(made.effectiveFrom),
          source: made.source,
        })
        .execute();
      const messages = await enqueue(em, [priceSetMessage(made, { now, correlationId })]);
      return { price: priceContract(made), messages };
    });
  }

  /** The version in force now and those that begin later, per model. */
  async current(): Promise<Price[]> {
    const now = rfc3339(this.clock.now());
    const rows = await tablesOf(this.em.fork())
      .selectFrom('prices as p')
      .selectAll()
      .where((where) =>
        where.or([
          where('p.effective_from', '>', now),
          where('p.effective_from', '=', (eb) =>
            eb
              .selectFrom('prices as q')
              .select((q) => q.fn.max('q.effective_from').as('begin'))
              .whereRef('q.model', '=', 'p.model')
              .where('q.effective_from', '<=', now),
          ),
        ]),
      )
      .orderBy('p.model')
      .orderBy('p.effective_from')
      .execute();
    return rows.map((row) => priceContract(priceVersion(row)));
  }

  /** All versions, newest first; `before` is the last version of the page before. */
  async page(limit: number, before: string | undefined): Promise<{ prices: Price[]; nextCursor: string | null }> {
    let query = tablesOf(this.em.fork()).selectFrom('prices').selectAll().orderBy('version', 'desc');
    if (before !== undefined) query = query.where('version', '<', before);
    const rows = await query.limit(limit + 1).execute();
    const prices = rows.slice(0, limit).map((row) => priceContract(priceVersion(row)));
    return { prices, nextCursor: rows.length > limit ? (prices.at(-1)?.version ?? null) : null };
  }

  /** The known ones among these versions. */
  async byVersion(em: EntityManager, wanted: Iterable<string>): Promise<ReadonlyMap<string, PriceVersion>> {
    const unseen = [...new Set(wanted)].filter((version) => !this.versions.has(version));
    if (unseen.length > 0) {
      const rows = await tablesOf(em)
        .selectFrom('prices')
        .selectAll()
        .where('version', '=', sql<string>`any(${unseen}::text[])`)
        .execute();
      for (const row of rows) this.versions.set(row.version, priceVersion(row));
    }
    return this.versions;
  }
}

const priceVersion = (row: Selectable<Tables['prices']>): PriceVersion => ({
  version: row.version,
  model: row.model,
  prices: {
    input: BigInt(row.input),
    cachedInput: BigInt(row.cached_input),
    output: BigInt(row.output),
    audioMs: BigInt(row.audio_ms),
  },
  effectiveFrom: Date.parse(row.effective_from),
  source: row.source,
});

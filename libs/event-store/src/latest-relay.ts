import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { sql, type RawBuilder } from 'kysely';
import { tablesOf } from './tables.js';
import { unnest } from './unnest.js';

/**
 * State, not facts: the newest content of a row is published, however often it changed in between. The outbox is for what
 * happened, each once; this is for what is so now, and a hot row costs a message every few seconds, not one per change.
 *
 * The table has, beside its content:
 * `key_id text primary key`,
 * `version bigint not null default (extract(epoch from now()) * 1000)::bigint`,
 * `due_at timestamptz default now()` (null = published as it is now) with an index where it is not null,
 * `not_before timestamptz not null default '-infinity'` (when it may be published again).
 */
export interface LatestRelayOptions<Row extends LatestRow> {
  readonly em: EntityManager;
  readonly table: string;
  /** What `publish` needs of a row, beside its key and version. */
  readonly columns: Readonly<Record<Exclude<keyof Row & string, keyof LatestRow>, RawBuilder<unknown>>>;
  /**
   * Resolves when the broker has acknowledged it. Must end by itself, well before `leaseMs`. May be called twice with
   * the same version, and with versions out of order: who hears it keeps the highest.
   */
  readonly publish: (row: Row) => Promise<unknown>;
  /** Milliseconds between two publishes of one row. */
  readonly everyMs: number;
  /** Rows that are published at the same time. @default 100 */
  readonly batchSize?: number;
  /**
   * Rows that are published in a second by one process, those first that have waited longest: with very many rows that
   * change, each is told less often, and telling does not cost more. @default 250
   */
  readonly perSecond?: number;
  /** Milliseconds after which another process takes over what this one took and did not finish. @default 30_000 */
  readonly leaseMs?: number;
  /** A sweep that failed, or the first publish of it that did; it is tried again. */
  readonly onError?: (error: unknown) => void;
}

export interface LatestRow {
  readonly key_id: string;
  /** Grows with every change, and goes on growing when the database was set back to a backup. */
  readonly version: string;
}

/**
 * What an upsert (`insert into … as t … on conflict (key_id) do update set …`) sets besides the content, in the
 * transaction of the change. A row that waits keeps its `due_at`, so that changing it touches no index.
 */
export const changed = sql`
  version = greatest(t.version + 1, excluded.version), due_at = coalesce(t.due_at, greatest(now(), t.not_before))`;

const MAX_POLL_MS = 1_000;
const MAX_BACKOFF_MS = 10_000;

interface Leased {
  /** What `due_at` was set to: who finds it changed was too late. */
  readonly lease: string;
}

interface Sent extends Leased {
  readonly key: string;
  readonly version: string;
  readonly acknowledged: boolean;
}

/**
 * Publishes the rows that are due. Replicas share the work. No row is locked while the broker is waited for: whoever
 * changes rows must not wait for NATS. A process that dies between the publish and its mark leaves a row that is
 * published once more.
 */
export class LatestRelay<Row extends LatestRow = LatestRow> {
  readonly #options: Required<LatestRelayOptions<Row>>;
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(options: LatestRelayOptions<Row>) {
    this.#options = { batchSize: 100, perSecond: 250, leaseMs: 30_000, onError: () => {}, ...options };
  }

  /** Starts sweeping; needs neither the database nor the broker to be there. */
  start(): void {
    this.#loop ??= this.#run();
  }

  /** Waits for what is under way; what is due stays so. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** Milliseconds by which the row that waits longest is overdue; 0 when none is. For a gauge. */
  async lateMs(): Promise<number> {
    const { rows } = await sql<{ late: string | null }>`
      select extract(epoch from now() - min(due_at)) * 1000 as late from ${sql.table(this.#options.table)}
      where due_at is not null
    `.execute(tablesOf(this.#options.em.fork()));
    return Math.max(0, Number(rows[0]?.late ?? 0));
  }

  /** Publishes one batch of what is due. */
  async sweep(): Promise<{ readonly found: number; readonly published: number }> {
    const rows = await this.#take();
    if (rows.length === 0) return { found: 0, published: 0 };
    const results = await Promise.allSettled(rows.map(async (row) => this.#options.publish(row)));
    // Once for all: with the broker away every row has the same to say.
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) this.#options.onError(failed.reason);
    const sent = rows.map((row, i) => ({
      key: row.key_id,
      version: row.version,
      lease: row.lease,
      acknowledged: results[i]!.status === 'fulfilled',
    }));
    await this.#mark(sent);
    return { found: rows.length, published: sent.filter(({ acknowledged }) => acknowledged).length };
  }

  async #run(): Promise<void> {
    const { everyMs, perSecond, onError } = this.#options;
    const pollMs = Math.min(MAX_POLL_MS, Math.max(10, everyMs / 5));
    const { signal } = this.#stop;
    for (let failures = 0, found = 0; ;) {
      const pause = failures === 0 ? pollMs : Math.min(MAX_BACKOFF_MS, pollMs * 2 ** Math.min(failures, 10));
      const jittered = pause * (0.5 + Math.random() / 2);
      await sleep(Math.max(jittered, (1_000 * found) / perSecond), undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      try {
        const batch = await this.sweep();
        found = batch.found;
        failures = found > 0 && batch.published === 0 ? failures + 1 : 0;
      } catch (error) {
        failures += 1;
        if (!signal.aborted) onError(error);
      }
    }
  }

  /** By a lease, not by a lock: it is over when the statement is. Rows that are being changed right now come next time. */
  async #take(): Promise<(Row & Leased)[]> {
    const { em, table, columns, batchSize, leaseMs } = this.#options;
    const content = Object.entries<RawBuilder<unknown>>(columns).map(
      ([name, value]) => sql`${value} as ${sql.ref(name)}`,
    );
    const { rows } = await sql<Row & Leased>`
      with due as materialized (
        select key_id from ${sql.table(table)} where due_at <= now() order by due_at limit ${batchSize}
        for no key update skip locked
      )
      update ${sql.table(table)} as t set due_at = now() + ${leaseMs}::int * interval '1 millisecond'
      from due where t.key_id = due.key_id
      returning ${sql.join([sql`t.key_id`, sql`t.version`, sql`t.due_at::text as lease`, ...content])}
    `.execute(tablesOf(em.fork()));
    return rows;
  }

  /**
   * What changed while it was published is due again, and so is what was not acknowledged. Also when a lease was over:
   * an older version may have come to the broker behind a newer one, and the newest has to be the last. Locks are taken
   * in the order of the keys' bytes, as by whoever changes several rows.
   */
  async #mark(sent: readonly Sent[]): Promise<void> {
    const { em, table, everyMs } = this.#options;
    const { names, rows } = unnest(sent, {
      key_id: ['text', ({ key }) => key],
      version: ['bigint', ({ version }) => version],
      lease: ['timestamptz', ({ lease }) => lease],
      acknowledged: ['boolean', ({ acknowledged }) => acknowledged],
    });
    await em.fork().transactional(async (tx) => {
      const tables = tablesOf(tx);
      await sql`
        select from ${sql.table(table)} where key_id = any(${sent.map(({ key }) => key)}::text[])
        order by key_id collate "C" for no key update
      `.execute(tables);
      await sql`
        with sent (${names}) as (${rows}),
          next (at) as (select clock_timestamp() + ${everyMs}::int * interval '1 millisecond')
        update ${sql.table(table)} as t set
          due_at = case when s.acknowledged and t.version = s.version and t.due_at = s.lease then null else next.at end,
          not_before = next.at
        from sent as s, next where t.key_id = s.key_id
      `.execute(tables);
    });
  }
}

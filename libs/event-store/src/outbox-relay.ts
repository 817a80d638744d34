import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import type { OutboxMessage } from './outbox.js';
import { tablesOf } from './tables.js';

export interface OutboxRelayOptions {
  readonly em: EntityManager;
  /** Resolves when the broker has acknowledged the message (PubAck); rejects otherwise. Must end by itself. */
  readonly publish: (message: OutboxMessage) => Promise<void>;
  /** Milliseconds between two looks at the outbox. */
  readonly sweepMs?: number;
  /** Milliseconds a row is left to the direct publish of the process that wrote it. */
  readonly graceMs?: number;
  readonly batchSize?: number;
  /** Messages this process publishes directly at the same time; what is over it is left to the sweeper. */
  readonly maxInFlight?: number;
  /** After this a publish counts as failed, whatever `publish` does. */
  readonly publishTimeoutMs?: number;
  readonly onPublished?: (count: number, how: 'direct' | 'swept') => void;
  /** A publish (the first of its batch) or a look at the outbox that failed; it is tried again. */
  readonly onError?: (error: unknown) => void;
}

export interface OutboxStats {
  readonly count: number;
  /** Milliseconds since the oldest row was written; 0 when there is none. */
  readonly oldestAgeMs: number;
}

/** The advisory lock of the sweeper: any constant, the same in every replica; a database has one outbox. */
const SWEEPER_LOCK = '7310294412';
const MAX_BACKOFF_MS = 10_000;

/**
 * Brings committed messages to the broker: directly after the commit, and by sweeping what was left (a crash, a broker
 * or database that was away). At least once, in the order of the rows unless a publish fails.
 */
export class OutboxRelay {
  readonly #em: EntityManager;
  readonly #publish: (message: OutboxMessage) => Promise<void>;
  readonly #options: Required<Omit<OutboxRelayOptions, 'em' | 'publish'>>;
  readonly #inFlight = new Set<string>();
  #published: string[] = [];
  #deleting: Promise<void> | undefined;
  /** Something was left behind: newer messages must not overtake it. */
  #backlog = false;
  #stop = new AbortController();
  #wake: (() => void) | undefined;
  #nudged = false;
  #loop: Promise<void> | undefined;

  constructor({ em, publish, ...options }: OutboxRelayOptions) {
    this.#em = em;
    this.#publish = publish;
    this.#options = {
      sweepMs: 500,
      graceMs: 2_000,
      batchSize: 100,
      maxInFlight: 256,
      publishTimeoutMs: 5_000,
      onPublished: () => {},
      onError: () => {},
      ...options,
    };
  }

  /** Starts sweeping; needs neither the database nor the broker to be there. */
  start(): void {
    this.#loop ??= this.#sweepForEver();
  }

  /** Sweep now: something was enqueued without a direct publish, or the broker is back. */
  nudge(): void {
    this.#nudged = true;
    this.#wake?.();
  }

  /** Publishes committed messages now. False: something is left to the sweeper. Never rejects. */
  async publish(messages: readonly OutboxMessage[]): Promise<boolean> {
    if (messages.length === 0) return true;
    if (
      this.#stop.signal.aborted ||
      this.#backlog ||
      this.#inFlight.size + messages.length > this.#options.maxInFlight
    ) {
      this.nudge();
      return false;
    }
    const acknowledged = await this.#publishAll(messages);
    this.#options.onPublished(acknowledged.length, 'direct');
    this.#forget(acknowledged);
    const complete = acknowledged.length === messages.length;
    if (!complete) this.#backlog = true;
    return complete;
  }

  /** For a gauge, at the time of a scrape. */
  async stats(): Promise<OutboxStats> {
    const { rows } = await sql<{ count: string; age: string | null }>`
      select count(*) as count, extract(epoch from clock_timestamp() - min(created_at)) * 1000 as age from outbox
    `.execute(tablesOf(this.#em.fork()));
    return { count: Number(rows[0]?.count ?? 0), oldestAgeMs: Math.max(0, Number(rows[0]?.age ?? 0)) };
  }

  /** Waits for what is under way; what is left stays in the outbox. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#loop;
    while (this.#inFlight.size > 0) await sleep(10);
    await this.#deleting;
  }

  /** @returns the rows of those that were acknowledged */
  async #publishAll(messages: readonly OutboxMessage[]): Promise<string[]> {
    for (const { row } of messages) this.#inFlight.add(row);
    const sent = messages.map(async (message) => {
      try {
        await within(this.#options.publishTimeoutMs, this.#publish(message));
      } finally {
        this.#inFlight.delete(message.row);
      }
    });
    const results = await Promise.allSettled(sent);
    // Once for all: with the broker away every message has the same to say.
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) this.#options.onError(failed.reason);
    return messages.filter((_, index) => results[index]?.status === 'fulfilled').map(({ row }) => row);
  }

  /** Deletes in the background, many rows at once. A row that survives is published again: consumers know it by its id. */
  #forget(rows: readonly string[]): void {
    this.#published.push(...rows);
    this.#deleting ??= (async () => {
      try {
        while (this.#published.length > 0) {
          const batch = this.#published;
          this.#published = [];
          await remove(this.#em.fork(), batch);
        }
      } catch (error) {
        this.#options.onError(error);
      } finally {
        this.#deleting = undefined;
      }
    })();
  }

  async #sweepForEver(): Promise<void> {
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      const pause = failures === 0 ? this.#options.sweepMs : backoff(this.#options.sweepMs, failures);
      await this.#pause(pause);
      const nudged = this.#nudged;
      this.#nudged = false;
      try {
        failures = (await this.#sweepAll(nudged ? 0 : this.#options.graceMs)) ? 0 : failures + 1;
      } catch (error) {
        failures += 1;
        if (!this.#stop.signal.aborted) this.#options.onError(error);
      }
    }
  }

  /** @returns false when there is something and the broker took none of it */
  async #sweepAll(graceMs: number): Promise<boolean> {
    while (!this.#stop.signal.aborted) {
      if (!(await this.#hasRows(graceMs))) {
        this.#backlog = false;
        return true;
      }
      const { leader, found, published } = await this.#sweepBatch(graceMs);
      if (!leader) {
        this.#backlog &&= await this.#hasRows(this.#options.graceMs);
        return true;
      }
      this.#options.onPublished(published, 'swept');
      if (found > 0 && published === 0) return false;
      if (found < this.#options.batchSize) {
        if (published === found) this.#backlog = false;
        return true;
      }
    }
    return true;
  }

  async #hasRows(graceMs: number): Promise<boolean> {
    const { rows } = await sql`
      select 1 from outbox where created_at <= clock_timestamp() - ${graceMs}::int * interval '1 millisecond' limit 1
    `.execute(tablesOf(this.#em.fork()));
    return rows.length > 0;
  }

  /** One transaction, so that the lock goes away with the connection, however that ends. */
  async #sweepBatch(graceMs: number): Promise<{ leader: boolean; found: number; published: number }> {
    return this.#em.fork().transactional(async (tx) => {
      const tables = tablesOf(tx);
      const { rows } = await sql<{
        leader: boolean;
      }>`select pg_try_advisory_xact_lock(${SWEEPER_LOCK}) as leader`.execute(tables);
      if (!rows[0]?.leader) return { leader: false, found: 0, published: 0 };
      const batch = await tables
        .selectFrom('outbox')
        .select(['id', 'message_id', 'subject', 'headers', 'payload'])
        .where(sql<boolean>`created_at <= clock_timestamp() - ${graceMs}::int * interval '1 millisecond'`)
        .orderBy('id')
        .limit(this.#options.batchSize)
        .execute();
      const messages = batch
        .filter(({ id }) => !this.#inFlight.has(id))
        .map(({ id, message_id, subject, headers, payload }) => ({
          row: id,
          id: message_id,
          subject,
          payload,
          headers: headers as Record<string, string>,
        }));
      const acknowledged = await this.#publishAll(messages);
      await remove(tx, acknowledged);
      return { leader: true, found: messages.length, published: acknowledged.length };
    });
  }

  async #pause(milliseconds: number): Promise<void> {
    if (this.#nudged || this.#stop.signal.aborted) return;
    const timer = Promise.withResolvers<void>();
    const timeout = setTimeout(timer.resolve, milliseconds);
    this.#wake = timer.resolve;
    await timer.promise;
    clearTimeout(timeout);
    this.#wake = undefined;
  }
}

async function remove(em: EntityManager, rows: readonly string[]): Promise<void> {
  if (rows.length === 0) return;
  await sql`delete from outbox where id = any(${rows}::bigint[])`.execute(tablesOf(em));
}

function backoff(base: number, failures: number): number {
  const limit = Math.min(MAX_BACKOFF_MS, base * 2 ** Math.min(failures, 10));
  return limit / 2 + Math.random() * (limit / 2);
}

async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(milliseconds, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`no acknowledgement within ${milliseconds} ms`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}

import type { EntityManager } from '@mikro-orm/postgresql';
import { keyfeedKeySubject } from '@sluice/contracts/subjects';
import type { InForce, Invalidation } from '@sluice/contracts/auth';
import { replaced, unnest, type OutboxMessage } from '@sluice/event-store';
import { sql } from 'kysely';
import { PendingRow } from './gateway.entity.js';

/** A pending revoke that this process looks after. */
export interface Taken extends Invalidation {
  /** Its row in the outbox. */
  readonly message: string | null;
  /** Whether the broker has acknowledged it. */
  readonly acknowledged: boolean;
}

/** Revokes that were answered with "pending", until a day after they were in force. */
export class PendingStore {
  constructor(private readonly em: EntityManager) {}

  /** In a transaction of its own, before the answer: who hears "pending" can ask for the outcome. */
  async remember(invalidations: readonly Invalidation[], outbox: readonly OutboxMessage[]): Promise<void> {
    const rowOf = new Map(outbox.map(({ subject, row }) => [subject, row]));
    // In the order of the ids, as everywhere: two bulk revokes must not wait for each other's locks.
    const { names, rows } = unnest(inOrder(invalidations), {
      id: ['text', ({ id }) => id],
      version: ['integer', ({ version }) => version],
      inflight: ['text', ({ inflight }) => inflight],
      message: ['bigint', ({ id }) => rowOf.get(keyfeedKeySubject(id)) ?? null],
    });
    await sql`
      insert into pending_in_force as t (${names}, since, taken_until)
      select ${names}, now(), now() from (${rows}) as r
      on conflict (id) do update set
        ${replaced(['version', 'inflight', 'message', 'taken_until'])}, confirmed = null, of = null, ms = null, at = null,
        since = case when t.at is null and t.version = excluded.version then t.since else excluded.since end
      where t.version <= excluded.version
    `.execute(this.em.fork().getKysely());
  }

  /** These are in force, so what was pending for them is, up to their versions. */
  async settle(invalidations: readonly Invalidation[], { confirmed, of }: Omit<InForce, 'ms'>): Promise<void> {
    const { rows } = unnest(inOrder(invalidations), {
      id: ['text', ({ id }) => id],
      version: ['integer', ({ version }) => version],
    });
    await sql`
      update pending_in_force as t set confirmed = ${confirmed}, of = ${of}, at = now(),
        ms = least(extract(epoch from now() - t.since) * 1000, 2147483647)::integer
      from (${rows}) as r where t.id = r.id and t.version <= r.version and t.at is null
    `.execute(this.em.fork().getKysely());
  }

  async statusOf(id: string): Promise<InForce | 'pending' | undefined> {
    const row = await this.em.fork().findOne(PendingRow, { id });
    if (!row) return undefined;
    const { confirmed, of, ms } = row;
    return confirmed == null || of == null || ms == null ? 'pending' : { confirmed, of, ms };
  }

  /** Takes what nobody looks after, the longest waiting first. By a lease, so that replicas share the work. */
  async take(limit: number, leaseMs: number): Promise<readonly Taken[]> {
    const { rows } = await sql<Taken>`
      with due as materialized (
        select id from pending_in_force where at is null and taken_until <= now()
        order by taken_until, id limit ${limit} for no key update skip locked
      )
      update pending_in_force as t set taken_until = now() + ${leaseMs}::int * interval '1 millisecond'
      from due where t.id = due.id
      returning t.id, t.version, t.inflight, t.message::text,
        t.message is not null and not exists (select from outbox as o where o.id = t.message) as acknowledged
    `.execute(this.em.fork().getKysely());
    return rows;
  }

  /** Removes what has been in force for a day. */
  async forgetOld(): Promise<void> {
    await sql`delete from pending_in_force where at < now() - interval '24 hours'`.execute(this.em.fork().getKysely());
  }

  async count(): Promise<number> {
    return this.em.fork().count(PendingRow, { at: null });
  }
}

const inOrder = (invalidations: readonly Invalidation[]): readonly Invalidation[] =>
  invalidations.toSorted((one, other) => (one.id < other.id ? -1 : one.id > other.id ? 1 : 0));

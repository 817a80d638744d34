import type { EntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { tablesOf } from './tables.js';

/** A record that was set aside, and nobody has decided about yet. */
export interface Quarantined {
  /** Of its content, its id among it. */
  readonly hash: string;
  readonly id: string;
  readonly reason: string;
  readonly source: string;
  /** RFC 3339, UTC. */
  readonly setAsideAt: string;
}

/** What became of one: `stays` says why. */
export type Redriven =
  | { readonly result: 'booked' | 'duplicate' }
  | { readonly result: 'stays'; readonly reason: string };

/**
 * Books a record as if it came now, in a transaction of its own.
 * @returns what it was set aside for again, and how many changed nothing as they are booked already
 */
export type Book = (
  content: unknown,
  source: string,
) => Promise<{ readonly quarantined: readonly { readonly reason: string }[]; readonly duplicates: number }>;

/**
 * The records that `setAside` keeps, for who decides about them. One that is decided is kept, with what was decided, and is
 * not set aside anew when it comes again.
 */
export class Quarantine {
  constructor(
    private readonly em: EntityManager,
    private readonly book: Book,
  ) {}

  /** How many wait for somebody to decide. */
  async waiting(): Promise<number> {
    const { rows } = await sql<{ n: string }>`
      select count(*) as n from usage_quarantine where decided_at is null
    `.execute(tablesOf(this.em.fork()));
    return Number(rows[0]!.n);
  }

  /** In the order of their hashes, which is none; without their content. @param after the last one of the page before */
  async page(limit: number, after = ''): Promise<{ records: Quarantined[]; nextCursor: string | null }> {
    const { rows } = await sql<Quarantined>`
      select ${SHOWN} from usage_quarantine where decided_at is null and hash > ${after} order by hash limit ${limit + 1}
    `.execute(tablesOf(this.em.fork()));
    const records = rows.slice(0, limit);
    return { records, nextCursor: rows.length > limit ? records.at(-1)!.hash : null };
  }

  async find(hash: string): Promise<(Quarantined & { readonly content: unknown }) | undefined> {
    const { rows } = await sql<Quarantined & { content: unknown }>`
      select ${SHOWN}, record as content from usage_quarantine where hash = ${hash} and decided_at is null
    `.execute(tablesOf(this.em.fork()));
    return rows[0];
  }

  /**
   * Tries to book it, after what was wrong has been mended. Killed between the booking and the decision it is tried again,
   * and is a duplicate then: it is booked once. @returns undefined when there is none, or it is decided
   */
  async redrive(hash: string): Promise<Redriven | undefined> {
    const found = await this.find(hash);
    if (!found) return undefined;
    const { quarantined, duplicates } = await this.book(found.content, found.source);
    const [still] = quarantined;
    if (still) {
      await this.change(hash, sql`reason = ${still.reason}`);
      return { result: 'stays', reason: still.reason };
    }
    const result = duplicates > 0 ? 'duplicate' : 'booked';
    await this.change(hash, sql`decided_at = now(), decision = ${result}`);
    return { result };
  }

  /** Gives it up: it is never booked. @returns false when there is none, or it is decided */
  async drop(hash: string, reason: string): Promise<boolean> {
    return this.change(hash, sql`decided_at = now(), decision = ${`dropped: ${reason}`}`);
  }

  private async change(hash: string, change: ReturnType<typeof sql>): Promise<boolean> {
    const { rows } = await sql`
      update usage_quarantine set ${change} where hash = ${hash} and decided_at is null returning hash
    `.execute(tablesOf(this.em.fork()));
    return rows.length > 0;
  }
}

const SHOWN = sql`hash, request_id as id, reason, boot as source,
  to_char(set_aside_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "setAsideAt"`;

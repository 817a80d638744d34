import { EntityManager } from '@mikro-orm/postgresql';
import { Rejected } from '@sluice/contracts/errors';
import type { Horizon } from '@sluice/contracts/gateway';
import { settledBelow } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { closedUntil, hear, isDone, reach, type BootHorizon } from './horizon.js';

/** Milliseconds since its last word in which a process is taken to live: it is not closed by hand. */
const LIVES_MS = 60_000;
const MOST_BOOTS = 10_000;

/** A process of a gateway of which something may still come, or that was closed by hand. Times in ms since the epoch. */
export interface Boot extends BootHorizon {
  readonly boot: string;
  readonly below: number;
  /** Records that it told of and that are not here. */
  readonly missing: number;
  readonly toldAt: number;
  readonly closed: { readonly at: number; readonly reason: string } | undefined;
}

interface Row {
  readonly boot: string;
  readonly complete_until: string | null;
  readonly waiting_seq: string | null;
  readonly waiting_until: string | null;
  readonly latest_seq: string;
  readonly latest_until: string;
  readonly final: boolean;
  readonly told_at: string;
  readonly closed_at: string | null;
  readonly closed_reason: string | null;
  readonly below: string;
  readonly here: string;
}

const ms = (column: string) => sql`(extract(epoch from ${sql.ref(column)}) * 1000)::bigint as ${sql.ref(column)}`;
const time = (milliseconds: number | undefined): string | null =>
  milliseconds === undefined ? null : rfc3339(milliseconds);

export class Completeness {
  constructor(
    private readonly em: EntityManager,
    /** Up to which message of what processes tell all was heard: endless where nothing waits. May reject. */
    private readonly position: () => Promise<{ readonly through: number }>,
  ) {}

  /** A process told how far it is: again, late, or for the first time. */
  async hear({ boot, seq, until, final }: Horizon): Promise<void> {
    const told = { seq, until: Date.parse(until), final };
    await this.em.fork().transactional(async (em) => {
      await sql`select pg_advisory_xact_lock(hashtextextended(${`horizon ${boot}`}, 0))`.execute(tablesOf(em));
      const [known] = await read(em, sql`boot = ${boot}`);
      const next = hear(known, told, await settledBelow(em, boot));
      // Of one that was closed by hand a later word says that it lives.
      const news = !known || next.latest.until > known.latest.until;
      await write(em, boot, next, news);
    });
  }

  /** All that are not done, by their ids. */
  async boots(): Promise<Boot[]> {
    const em = this.em.fork();
    const boots = await read(em, sql`not done`);
    const done = boots.filter((boot) => isDone(boot, boot.below)).map(({ boot }) => boot);
    if (done.length > 0) {
      await sql`update usage_boots set done = true where boot = any(${done})`.execute(tablesOf(em));
      // They may have stood before others.
      if (boots.length === MOST_BOOTS) return this.boots();
    }
    return boots.filter((boot) => !isDone(boot, boot.below));
  }

  /** What keeps a window from being closed, and until when all is here. Times in ms since the epoch. */
  async window(to: number, now: number) {
    let boots = await this.boots();
    let known = true;
    // What one tells is heard after all others have begun. Where there is none, one may have begun that nobody heard of.
    if (boots.every(isClosed)) {
      known = await this.heardAll();
      // Read once more: what was heard by then is seen here.
      boots = await this.boots();
    }
    const open = boots.filter((boot) => !isClosed(boot));
    // Beyond so many there may be others.
    const until = known && boots.length < MOST_BOOTS ? closedUntil(open, now) : undefined;
    const behind = open.filter(({ completeUntil }) => completeUntil === undefined || completeUntil < to);
    return {
      closed: until !== undefined && until >= to,
      closedUntil: until,
      missing: { gateways: behind.length, records: behind.reduce((sum, { missing }) => sum + missing, 0) },
    };
  }

  /** While NATS is away nobody knows. */
  private async heardAll(): Promise<boolean> {
    return this.position().then(
      ({ through }) => through === Number.POSITIVE_INFINITY,
      () => false,
    );
  }

  /**
   * Nothing more is waited for of a process that nobody will ever hear of again. The same again changes nothing.
   * @throws Rejected `not_found`; `conflict` for one that told something a moment ago
   */
  async close(boot: string, reason: string, now: number): Promise<Boot> {
    return this.em.fork().transactional(async (em) => {
      await sql`select pg_advisory_xact_lock(hashtextextended(${`horizon ${boot}`}, 0))`.execute(tablesOf(em));
      const [known] = await read(em, sql`boot = ${boot} and not done`);
      if (!known || isDone(known, known.below))
        throw new Rejected('not_found', 'No records of such a process are waited for.', { param: 'boot' });
      if (known.closed) return known;
      if (!known.final && now - known.toldAt < LIVES_MS)
        throw new Rejected('conflict', 'This process is alive.', { param: 'boot' });
      await sql`update usage_boots set closed_at = ${rfc3339(now)}::timestamptz, closed_reason = ${reason} where boot = ${boot}`.execute(
        tablesOf(em),
      );
      return { ...known, closed: { at: now, reason } };
    });
  }
}

const isClosed = ({ closed }: Boot): boolean => closed !== undefined;

async function read(em: EntityManager, condition: ReturnType<typeof sql>): Promise<Boot[]> {
  const { rows } = await sql<Row>`
    select boot, ${ms('complete_until')}, waiting_seq, ${ms('waiting_until')}, latest_seq, ${ms('latest_until')}, final,
      ${ms('told_at')}, ${ms('closed_at')}, closed_reason,
      coalesce((select upper(r) from unnest(s.ranges) as r where lower(r) = 0), 0) as below,
      coalesce((select sum(upper(r) - lower(r)) from unnest(s.ranges * int8multirange(int8range(0, latest_seq))) as r), 0) as here
    from usage_boots left join usage_settled s using (boot) where ${condition} order by boot limit ${MOST_BOOTS}
  `.execute(tablesOf(em));
  return rows.map((row) => {
    const waiting =
      row.waiting_seq === null ? undefined : { seq: Number(row.waiting_seq), until: Number(row.waiting_until) };
    const horizon: BootHorizon = {
      completeUntil: row.complete_until === null ? undefined : Number(row.complete_until),
      waiting,
      latest: { seq: Number(row.latest_seq), until: Number(row.latest_until) },
      final: row.final,
    };
    const below = Number(row.below);
    return {
      ...reach(horizon, below),
      boot: row.boot,
      below,
      missing: Number(row.latest_seq) - Number(row.here),
      toldAt: Number(row.told_at),
      closed: row.closed_at === null ? undefined : { at: Number(row.closed_at), reason: row.closed_reason ?? '' },
    };
  });
}

async function write(em: EntityManager, boot: string, horizon: BootHorizon, news: boolean): Promise<void> {
  const { completeUntil, waiting, latest, final } = horizon;
  await sql`
    insert into usage_boots as b
      (boot, complete_until, waiting_seq, waiting_until, latest_seq, latest_until, final, told_at)
    values (${boot}, ${time(completeUntil)}::timestamptz, ${waiting?.seq ?? null}, ${time(waiting?.until)}::timestamptz,
      ${latest.seq}, ${time(latest.until)}::timestamptz, ${final}, now())
    on conflict (boot) do update set complete_until = excluded.complete_until, waiting_seq = excluded.waiting_seq,
      waiting_until = excluded.waiting_until, latest_seq = excluded.latest_seq, latest_until = excluded.latest_until,
      final = excluded.final
      ${news ? sql`, told_at = now(), done = false, closed_at = null, closed_reason = null` : sql``}
  `.execute(tablesOf(em));
}

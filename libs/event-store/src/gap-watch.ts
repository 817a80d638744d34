import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Clock } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import {
  common,
  decideGaps,
  sizeOf,
  type Gap,
  type GapDecision,
  type GapRules,
  type Range,
  type Suspicion,
} from './gaps.js';
import { tablesOf } from './tables.js';
import { unnest } from './unnest.js';

/** How far a stream goes, and how much of it the consumer has done with. */
export interface Position {
  readonly last: number;
  readonly through: number;
}

/** What a source says of itself when it asks what is settled of it. */
export interface SourceTold {
  /** Its numbers below this are stored in the stream. */
  readonly published: number;
  /** The lowest number that its journal still has. */
  readonly held: number;
}

export interface GapWatchOptions extends GapRules {
  readonly em: EntityManager;
  readonly clock: Clock;
  /** Of the consumer that settles; rejects where it can't be had. */
  readonly position: () => Promise<Position>;
  /** In the transaction that writes them down, so once for each. */
  readonly onChange?: (em: EntityManager, decision: GapDecision) => Promise<void>;
  /** After that commit: for logs. */
  readonly onChanged: (decision: GapDecision) => void;
  readonly onError: (error: unknown) => void;
  /** Milliseconds between two looks. */
  readonly everyMs: number;
}

/** The advisory lock of the watch: any constant, the same in every replica. */
const WATCH_LOCK = '7310294413';
/** Of a source; what is behind them is looked at when these have come. */
const MOST_RANGES = 200;

/**
 * Looks for gaps in what is settled, in one replica at a time. What is only suspected is in memory: another replica, or the
 * next process, begins that anew.
 */
export class GapWatch {
  private suspicion: Suspicion | undefined;
  private readonly stopping = new AbortController();
  private running: Promise<void> | undefined;

  constructor(private readonly options: GapWatchOptions) {}

  start(): void {
    this.running ??= this.run();
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }

  /** One look. */
  async look(): Promise<void> {
    const { em, clock, position, onChange, onChanged } = this.options;
    // Read before what is settled: what the consumer had done with by now is seen there.
    const through = await position().then(
      (read) => read.through,
      () => undefined,
    );
    const looked = await em.fork().transactional(async (tx) => {
      const { rows } = await sql<{ mine: boolean }>`select pg_try_advisory_xact_lock(${WATCH_LOCK}) as mine`.execute(
        tablesOf(tx),
      );
      if (!rows[0]?.mine) return undefined;
      const missing = await missingRanges(tx);
      const decision = decideGaps(
        {
          missing,
          known: await knownGaps(tx),
          keepers: await keepers(tx),
          suspicion: this.suspicion,
          through,
          now: clock.monotonic(),
        },
        this.options,
      );
      await write(tx, decision);
      await onChange?.(tx, decision);
      return { missing, decision };
    });
    if (!looked) {
      this.suspicion = undefined;
      return;
    }
    onChanged(looked.decision);
    if (!looked.decision.renew) return;
    const at = clock.monotonic();
    // Read after what is missing: whatever of it is in the stream is not behind this.
    const { last } = await position();
    this.suspicion = { at, last, missing: looked.missing };
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      await sleep(this.options.everyMs, undefined, { signal, ref: false }).catch(() => {});
      if (!signal.aborted) await this.look().catch(this.options.onError);
    }
  }
}

/** Of all sources, or of one: published or below a settled one, and not settled. */
export async function missingRanges(em: EntityManager, source?: string): Promise<Map<string, Range[]>> {
  const { rows } = await sql<{ boot: string; ranges: Range[] }>`
    select boot, ranges from (
      select boot, int8multirange(int8range(0, greatest(upper(s.ranges), p.published, 0))) - coalesce(s.ranges, '{}') as missing
      from usage_settled s full join usage_sources p using (boot)
      ${source === undefined ? sql`` : sql`where boot = ${source}`}
    ) m, lateral (
      select json_agg(json_build_array(lower(r), upper(r))) as ranges
      from (select r from unnest(missing) as r limit ${MOST_RANGES}) few
    ) listed
    where not isempty(missing)
  `.execute(tablesOf(em));
  return new Map(rows.map(({ boot, ranges }) => [boot, ranges]));
}

async function knownGaps(em: EntityManager, source?: string): Promise<(Gap & { ageMs: number })[]> {
  const { rows } = await sql<{ boot: string; from: string; to: string; given_up: boolean; age: string }>`
    select boot, from_seq as from, to_seq as to, given_up, (extract(epoch from clock_timestamp() - seen_at) * 1000)::bigint as age from usage_gaps
    ${source === undefined ? sql`` : sql`where boot = ${source}`} order by boot, from_seq
  `.execute(tablesOf(em));
  return rows.map(({ boot, from, to, given_up, age }) => ({
    source: boot,
    from: Number(from),
    to: Number(to),
    givenUp: given_up,
    ageMs: Number(age),
  }));
}

async function keepers(em: EntityManager) {
  const { rows } = await sql<{ boot: string; held: string; silent: string }>`
    select boot, held, (extract(epoch from clock_timestamp() - asked_at) * 1000)::bigint as silent
    from usage_sources where boot in (select boot from usage_gaps)
  `.execute(tablesOf(em));
  return new Map(rows.map(({ boot, held, silent }) => [boot, { held: Number(held), silentMs: Number(silent) }]));
}

async function write(em: EntityManager, { opened, closed, givenUp }: GapDecision): Promise<void> {
  const keys = (gaps: readonly Gap[]) =>
    unnest(gaps, {
      boot: ['text', ({ source }) => source],
      from_seq: ['bigint', ({ from }) => from],
      to_seq: ['bigint', ({ to }) => to],
    });
  if (opened.length > 0) {
    const { names, rows } = keys(opened);
    await sql`insert into usage_gaps (${names}) ${rows} on conflict do nothing`.execute(tablesOf(em));
  }
  if (givenUp.length > 0)
    await sql`update usage_gaps set given_up = true where (boot, from_seq, to_seq) in (${keys(givenUp).rows})`.execute(
      tablesOf(em),
    );
  if (closed.length > 0)
    await sql`delete from usage_gaps where (boot, from_seq, to_seq) in (${keys(closed).rows})`.execute(tablesOf(em));
}

/**
 * A source asks what is settled of it, and tells how far it is: what it should publish again, also of what was given up, as
 * it has the journal after all.
 */
export async function askedBy(em: EntityManager, source: string, told: SourceTold | undefined): Promise<Range[]> {
  if (told) {
    await sql`
      insert into usage_sources as s (boot, published, held, asked_at) values (${source}, ${told.published}, ${told.held}, now())
      on conflict (boot) do update set published = greatest(s.published, excluded.published), held = excluded.held, asked_at = now()
    `.execute(tablesOf(em));
  }
  const gaps = await knownGaps(em, source);
  if (gaps.length === 0) return [];
  const left = (await missingRanges(em, source)).get(source) ?? [];
  return common(
    gaps.map(({ from, to }): Range => [from, to]),
    left,
  ).slice(0, MOST_RANGES);
}

/** For gauges: open gaps, those that were given up, the records that are missing in both, and the age of the oldest open one in seconds. */
export async function gapFigures(em: EntityManager) {
  const gaps = await knownGaps(em);
  const missing = gaps.length === 0 ? new Map<string, Range[]>() : await missingRanges(em);
  const open = gaps.filter(({ givenUp }) => !givenUp);
  return {
    open: open.length,
    givenUp: gaps.length - open.length,
    records: gaps.reduce(
      (sum, { source, from, to }) => sum + sizeOf(common([[from, to]], missing.get(source) ?? [])),
      0,
    ),
    oldestSeconds: Math.max(0, ...open.map(({ ageMs }) => ageMs)) / 1000,
  };
}

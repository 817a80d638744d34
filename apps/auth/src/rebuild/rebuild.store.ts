import { IsolationLevel } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { EncodedEvent, EventMetadata } from '@sluice/event-sourcing';
import type { StoredEvent } from '@sluice/event-store';
import { sql, type Kysely } from 'kysely';

const PAGE = 500;
const SHOWN = 5;

/** Events of one kind of aggregate, and the inline projection that keeps their read models. */
export interface Replayed {
  /** What the ids of its streams begin with. */
  readonly prefix: string;
  readonly project: (em: EntityManager, stored: StoredEvent<EncodedEvent>) => Promise<void>;
}

/** A table that is made of events alone. */
export interface ReadModel {
  readonly table: string;
  /** SQL on the row `t`: which rows are made of events; the rest is not compared. */
  readonly only?: string;
}

export interface TableReport {
  readonly table: string;
  readonly rows: number;
  /** Rows that are live and not rebuilt, and the other way round; the first few of them. */
  readonly missing: readonly unknown[];
  readonly extra: readonly unknown[];
}

export interface RebuildOptions {
  readonly em: EntityManager;
  readonly replayed: readonly Replayed[];
  readonly models: readonly ReadModel[];
  readonly onProgress?: (done: number, of: number) => void;
}

/**
 * Rebuilds every read model from the events in a schema of its own, and compares it row by row with the live one: in one
 * transaction and one snapshot, so that it holds while others write, and rolled back, so that nothing stays.
 */
export async function compareRebuilt(options: RebuildOptions): Promise<{ events: number; tables: TableReport[] }> {
  return replay(options, undefined, async (db, events) => {
    const tables: TableReport[] = [];
    for (const model of options.models) tables.push(await compare(db, model));
    return { events, tables };
  });
}

/** The read models as they were at a moment, by table. Digests are left out. */
export async function stateAt(options: RebuildOptions, at: Date): Promise<Record<string, unknown[]>> {
  return replay(options, at, async (db) => {
    const state: Record<string, unknown[]> = {};
    for (const { table } of options.models) {
      const { rows } = await sql<{ row: unknown }>`
        select to_jsonb(t) - 'digest' - 'invitation_digest' as row from ${sql.table(`rebuilt.${table}`)} t order by 1
      `.execute(db);
      state[table] = rows.map(({ row }) => row);
    }
    return state;
  });
}

class RolledBack extends Error {}

async function replay<T>(
  { em, replayed, models, onProgress }: RebuildOptions,
  until: Date | undefined,
  result: (db: Kysely<unknown>, events: number) => Promise<T>,
): Promise<T> {
  let value: T | undefined;
  const work = async (tx: EntityManager) => {
    const db = tx.getKysely<unknown>();
    await sql`set local statement_timeout = 0`.execute(db);
    await sql`set local idle_in_transaction_session_timeout = 0`.execute(db);
    await sql`create schema rebuilt`.execute(db);
    for (const { table } of models) {
      await sql`create table ${sql.table(`rebuilt.${table}`)} (like ${sql.table(`public.${table}`)} including all)`.execute(
        db,
      );
    }
    // The projections name their tables without a schema: from here on that means the new ones.
    await sql`set local search_path = rebuilt, public`.execute(db);
    const events = await project(tx, replayed, until, onProgress);
    value = await result(db, events);
    throw new RolledBack();
  };
  await em
    .fork()
    .transactional(work, { isolationLevel: IsolationLevel.REPEATABLE_READ })
    .catch((error: unknown) => {
      if (!(error instanceof RolledBack)) throw error;
    });
  return value!;
}

interface EventRecord {
  global_position: string;
  stream_id: string;
  version: number;
  event_id: string;
  type: string;
  data: unknown;
  metadata: EventMetadata;
  recorded_at: string;
}

async function project(
  tx: EntityManager,
  replayed: readonly Replayed[],
  until: Date | undefined,
  onProgress: RebuildOptions['onProgress'],
): Promise<number> {
  const db = tx.getKysely<unknown>();
  const limit = until?.toISOString() ?? 'infinity';
  const { rows: counted } = await sql<{ of: string }>`
    select count(*) as of from public.events where recorded_at <= ${limit}::timestamptz
  `.execute(db);
  const of = Number(counted[0]!.of);
  let done = 0;
  for (let after = '0'; ;) {
    const { rows } = await sql<EventRecord>`
      select * from public.events where global_position > ${after} and recorded_at <= ${limit}::timestamptz
      order by global_position limit ${PAGE}
    `.execute(db);
    for (const row of rows) {
      const kind = replayed.find(({ prefix }) => row.stream_id.startsWith(prefix));
      if (!kind) throw new Error(`nobody reads the stream ${row.stream_id}`);
      await kind.project(tx, stored(row));
    }
    tx.clear();
    done += rows.length;
    onProgress?.(done, of);
    if (rows.length < PAGE) return done;
    after = rows.at(-1)!.global_position;
  }
}

const stored = (row: EventRecord): StoredEvent<EncodedEvent> => ({
  id: row.event_id,
  streamId: row.stream_id,
  version: row.version,
  globalPosition: BigInt(row.global_position),
  event: { type: row.type, data: row.data },
  metadata: row.metadata,
  recordedAt: new Date(row.recorded_at),
});

async function compare(db: Kysely<unknown>, { table, only = 'true' }: ReadModel): Promise<TableReport> {
  const rowsOf = (schema: string) =>
    sql`select to_jsonb(t) as row from ${sql.table(`${schema}.${table}`)} t where ${sql.raw(only)}`;
  const difference = async (one: string, other: string) => {
    const { rows } = await sql<{ row: unknown }>`${rowsOf(one)} except all ${rowsOf(other)} limit ${SHOWN}`.execute(db);
    return rows.map(({ row }) => row);
  };
  const { rows } = await sql<{ rows: string }>`select count(*) as rows from (${rowsOf('rebuilt')}) r`.execute(db);
  return {
    table,
    rows: Number(rows[0]!.rows),
    missing: await difference('public', 'rebuilt'),
    extra: await difference('rebuilt', 'public'),
  };
}

import { Rejected } from '@sluice/contracts/errors';
import { GRANULARITIES, USAGE_GRANULARITIES } from '@sluice/contracts/metering';
import { z } from 'zod';
import { BUCKET_MS, type Granularity } from '../usage/rollup.js';
import { cursorSchema, readCursor, refusedCursor, time, writeCursor } from './cursor.js';
import { refused, type UsageGroup, type UsageInclude, type UsageParams } from './usage-params.js';
import type { SummedRow } from './usage-row.js';

const DAY_MS = 86_400_000;
/** The longest window by the rollup that is read, so that a page of rows never costs a walk through years of minutes. */
const WINDOW_DAYS: Readonly<Record<Granularity, number>> = { minute: 1, hour: 31, day: 366 };

/** Columns behind each group. A workload's name is unique in its project only, so it brings that along. */
const COLUMNS = {
  key: ['key_id'],
  model: ['model'],
  project: ['project'],
  workload: ['project', 'workload'],
  tag: ['tag'],
  // Always there, but in a total.
  bucket: [],
} as const satisfies Record<UsageGroup, readonly string[]>;
export type GroupColumn = (typeof COLUMNS)[UsageGroup][number];

/** A query without anything left to default. Times in ms since the epoch, half-open `[from, to)`. */
export interface UsageQuery {
  readonly granularity: (typeof USAGE_GRANULARITIES)[number];
  /** The rollup to read: the granularity, or for a total the coarsest that knows its begin and end. */
  readonly source: Granularity;
  readonly from: number;
  readonly to: number;
  readonly columns: readonly GroupColumn[];
  /** What has to be equal; `tag`: one of the key's. */
  readonly filters: Readonly<Partial<Record<GroupColumn, string>>>;
  readonly include: readonly UsageInclude[];
  readonly limit: number;
  /** Position of the last row that was given: begin of its bucket (null in a total), then its columns. */
  readonly after: { readonly bucket: number | null; readonly values: readonly string[] } | undefined;
}

/**
 * The query a request means. A bucket belongs to the window in which it begins, so that windows side by side count
 * nothing twice and leave nothing out.
 * @param projectOfKey the project a management key is bound to; null = the whole organization
 * @throws Rejected `invalid_request` with the parameter's name, `project_scope_mismatch`
 */
export function usageQuery(params: UsageParams, projectOfKey: string | null, now: number): UsageQuery {
  const { granularity, groupBy = [], include = [], limit } = params;
  if (projectOfKey !== null && params.project !== undefined && params.project !== projectOfKey) {
    throw new Rejected('project_scope_mismatch', undefined, { param: 'project' });
  }
  if (granularity === 'total' && groupBy.includes('bucket')) throw refused('groupBy', 'a total has no buckets');
  const filters = {
    project: projectOfKey ?? params.project,
    key_id: params.keyId,
    model: params.model,
    workload: params.workload,
    tag: params.tag,
  };
  const shape = {
    granularity,
    columns: [...new Set(groupBy.flatMap((group): readonly GroupColumn[] => COLUMNS[group]))],
    filters: Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined)),
    include,
  };
  const cursor = params.cursor === undefined ? undefined : readCursor(params.cursor, usageCursorSchema, shape);
  if (cursor && (cursor.bucket === null) !== (granularity === 'total')) throw refusedCursor();
  const source = granularity === 'total' ? (cursor?.source ?? sourceOfTotal(params)) : granularity;
  const span = WINDOW_DAYS[source] * DAY_MS;
  const to = params.to === undefined ? (cursor?.to ?? now) : Date.parse(params.to);
  const from = params.from === undefined ? (cursor?.from ?? defaultFrom(to, span)) : Date.parse(params.from);
  if (from >= to) throw refused('from', 'must be before to');
  if (to - from > span) throw refused('from', tooLong(granularity, source));
  return { ...shape, source, from, to, limit, after: cursor && { bucket: cursor.bucket, values: cursor.values } };
}

/** Coarse rollups have few rows. Where the end is not said it is now, and all that began before it is in. */
function sourceOfTotal({ from, to }: Pick<UsageParams, 'from' | 'to'>): Granularity {
  const given = [from, to].flatMap((time) => (time === undefined ? [] : [Date.parse(time)]));
  const fits = (one: Granularity) => given.every((time) => time % BUCKET_MS[one] === 0);
  return GRANULARITIES.toReversed().find(fits) ?? 'minute';
}

function tooLong(granularity: UsageQuery['granularity'], source: Granularity): string {
  const longest = `at most ${WINDOW_DAYS[source]} day${WINDOW_DAYS[source] === 1 ? '' : 's'}`;
  if (granularity !== 'total' || source === 'day') return `with granularity ${granularity} the window is ${longest}`;
  return `a total whose begin or end is inside of ${source === 'hour' ? 'a day' : 'an hour'} is of ${longest}`;
}

/** This month so far, or as much of its end as the granularity allows. */
const defaultFrom = (to: number, span: number): number => {
  const end = new Date(to - 1);
  return Math.max(Date.UTC(end.getUTCFullYear(), end.getUTCMonth(), 1), to - span);
};

const usageCursorSchema = cursorSchema.extend({ source: z.enum(GRANULARITIES), bucket: time.nullable() });

export const cursorAfter = (query: UsageQuery, row: SummedRow): string =>
  writeCursor<z.infer<typeof usageCursorSchema>>(query, {
    source: query.source,
    bucket: row.bucket ?? null,
    values: query.columns.map((column) => row[column]!),
  });

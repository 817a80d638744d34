import { Rejected } from '@sluice/contracts/errors';
import { GRANULARITIES, REFUSAL_GROUPS } from '@sluice/contracts/metering';
import { z } from 'zod';
import { cursorSchema, readCursor, time, writeCursor } from '../query/cursor.js';
import { groupsAmong, instant, page, refused, textSchema } from '../query/usage-params.js';
import { BUCKET_MS, type Granularity } from '../usage/rollup.js';

const DAY_MS = BUCKET_MS.day;
/** All of them are sums of minutes. */
const WINDOW_DAYS: Readonly<Record<Granularity, number>> = { minute: 1, hour: 7, day: 31 };

const COLUMNS = { key: 'key_id', model: 'model', project: 'project', code: 'code' } as const;
type Column = (typeof COLUMNS)[(typeof REFUSAL_GROUPS)[number]];

/** Empty where a request named none. */
const name = textSchema.max(256);

/** The query string of `GET /api/usage/refusals`. */
export const refusalParamsSchema = z.strictObject({
  from: instant.optional(),
  to: instant.optional(),
  groupBy: groupsAmong(REFUSAL_GROUPS).optional(),
  granularity: z.enum(GRANULARITIES).default('hour'),
  project: name.optional(),
  keyId: name.optional(),
  model: name.optional(),
  code: name.optional(),
  ...page,
});
type RefusalParams = z.infer<typeof refusalParamsSchema>;

/** Of the last row that was given: begin of its bucket, then its columns. */
export interface RefusalPosition {
  readonly bucket: number;
  readonly values: readonly string[];
}

/** A query without anything left to default. Times in ms since the epoch, half-open `[from, to)`. */
export interface RefusalQuery {
  readonly granularity: Granularity;
  readonly from: number;
  readonly to: number;
  readonly columns: readonly Column[];
  readonly filters: Readonly<Partial<Record<Column, string>>>;
  readonly limit: number;
  readonly after: RefusalPosition | undefined;
}

/**
 * The query a request means. The window is cut to whole minutes, as they are counted by; without a begin it is the last day,
 * or of days the last 31.
 * @param projectOfKey the project a management key is bound to; null = the whole organization
 * @throws Rejected `invalid_request` with the parameter's name, `project_scope_mismatch`
 */
export function refusalQuery(params: RefusalParams, projectOfKey: string | null, now: number): RefusalQuery {
  const { granularity, limit } = params;
  if (projectOfKey !== null && params.project !== undefined && params.project !== projectOfKey)
    throw new Rejected('project_scope_mismatch', undefined, { param: 'project' });
  const given = {
    project: projectOfKey ?? params.project,
    key_id: params.keyId,
    model: params.model,
    code: params.code,
  };
  const shape = {
    granularity,
    columns: [...new Set((params.groupBy ?? []).map((group) => COLUMNS[group]))],
    filters: Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  };
  const cursor = params.cursor === undefined ? undefined : readCursor(params.cursor, refusalCursorSchema, shape);
  const longest = WINDOW_DAYS[granularity] * DAY_MS;
  const to = params.to === undefined ? (cursor?.to ?? now) : Date.parse(params.to);
  const wide = granularity === 'day' ? longest : DAY_MS;
  const from = params.from === undefined ? (cursor?.from ?? to - wide) : Date.parse(params.from);
  if (from >= to) throw refused('from', 'must be before to');
  if (to - from > longest)
    throw refused('from', `with granularity ${granularity} the window is at most ${WINDOW_DAYS[granularity]} days`);
  return { ...shape, from, to, limit, after: cursor && { bucket: cursor.bucket, values: cursor.values } };
}

const refusalCursorSchema = cursorSchema.extend({ bucket: time });

export const refusalCursor = (query: RefusalQuery, position: RefusalPosition): string =>
  writeCursor<z.infer<typeof refusalCursorSchema>>(query, { bucket: position.bucket, values: [...position.values] });

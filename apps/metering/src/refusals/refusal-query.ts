import { Rejected } from '@sluice/contracts/errors';
import { GRANULARITIES, REFUSAL_GROUPS } from '@sluice/contracts/metering';
import { z } from 'zod';
import { BUCKET_MS, type Granularity } from '../usage/rollup.js';

const DAY_MS = BUCKET_MS.day;
/** All of them are sums of minutes. */
const WINDOW_DAYS: Readonly<Record<Granularity, number>> = { minute: 1, hour: 7, day: 31 };
const MAX_ROWS = 1_000;
const MOST_GROUPS = 3;

const COLUMNS = { key: 'key_id', model: 'model', project: 'project', code: 'code' } as const;
type Group = (typeof REFUSAL_GROUPS)[number];
type Column = (typeof COLUMNS)[Group];

const instant = z.union([z.iso.datetime({ offset: true }), z.iso.date()], {
  error: 'must be a time like 2026-11-20T10:00:00Z or a date like 2026-11-20',
});
const name = z.string().max(256);
const isGroup = (text: string): text is Group => (REFUSAL_GROUPS as readonly string[]).includes(text);
const groups = z.string().transform((text, context): Group[] => {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.every(isGroup) && parts.length <= MOST_GROUPS) return parts;
  context.addIssue({
    code: 'custom',
    message: `must be a list of up to ${MOST_GROUPS} of ${REFUSAL_GROUPS.join(', ')}`,
  });
  return z.NEVER;
});

/** The query string of `GET /api/usage/refusals`. */
export const refusalParamsSchema = z.strictObject({
  from: instant.optional(),
  to: instant.optional(),
  groupBy: groups.optional(),
  granularity: z.enum(GRANULARITIES).default('hour'),
  project: name.optional(),
  keyId: name.optional(),
  model: name.optional(),
  code: name.optional(),
  cursor: z.string().max(4_096).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_ROWS).default(MAX_ROWS),
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
  const filters = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const columns = [...new Set((params.groupBy ?? []).map((group) => COLUMNS[group]))];
  const cursor = params.cursor === undefined ? undefined : readCursor(params.cursor);
  if (
    cursor &&
    (cursor.shape !== shapeOf({ granularity, columns, filters }) || cursor.values.length !== columns.length)
  )
    throw refused('cursor', 'belongs to another query');
  const longest = WINDOW_DAYS[granularity] * DAY_MS;
  const to = params.to === undefined ? (cursor?.to ?? now) : Date.parse(params.to);
  const wide = granularity === 'day' ? longest : DAY_MS;
  const from = params.from === undefined ? (cursor?.from ?? to - wide) : Date.parse(params.from);
  if (from >= to) throw refused('from', 'must be before to');
  if (to - from > longest)
    throw refused('from', `with granularity ${granularity} the window is at most ${WINDOW_DAYS[granularity]} days`);
  return { granularity, from, to, columns, filters, limit, after: cursor };
}

const refused = (param: string, what: string, cause?: unknown): Rejected =>
  new Rejected('invalid_request', `${param}: ${what}.`, { param, cause });

const shapeOf = ({
  granularity,
  columns,
  filters,
}: Pick<RefusalQuery, 'granularity' | 'columns' | 'filters'>): string =>
  JSON.stringify([granularity, columns, filters]);

const time = z.number().int().nonnegative().max(253_402_300_799_999);
const cursorSchema = z.object({ shape: z.string(), from: time, to: time, bucket: time, values: z.array(name) });

/** The cursor carries the window, so that a page of "until now" goes on with the same now. */
function readCursor(text: string): z.infer<typeof cursorSchema> {
  try {
    const cursor: unknown = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
    return cursorSchema.parse(cursor);
  } catch (cause) {
    throw refused('cursor', 'is not one of ours', cause);
  }
}

export function refusalCursor(query: RefusalQuery, { bucket, values }: RefusalPosition): string {
  const cursor = { shape: shapeOf(query), from: query.from, to: query.to, bucket, values };
  return Buffer.from(JSON.stringify(cursor)).toString('base64url');
}

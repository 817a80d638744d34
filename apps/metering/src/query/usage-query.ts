import { Rejected } from '@sluice/contracts/errors';
import { GRANULARITIES, USAGE_GROUPS, type UsageRow } from '@sluice/contracts/metering';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { z } from 'zod';
import type { Granularity } from '../usage/rollup.js';

const DAY_MS = 86_400_000;
/** The longest window by granularity, so that a page of rows never costs a walk through years of minutes. */
const WINDOW_DAYS: Readonly<Record<Granularity, number>> = { minute: 1, hour: 31, day: 366 };
const MAX_ROWS = 1_000;

export type UsageGroup = (typeof USAGE_GROUPS)[number];

/** Columns of the rollups behind each group. A workload's name is unique in its project only, so it brings that along. */
const COLUMNS = {
  key: ['key_id'],
  model: ['model'],
  project: ['project'],
  workload: ['project', 'workload'],
} as const satisfies Record<UsageGroup, readonly string[]>;
export type GroupColumn = (typeof COLUMNS)[UsageGroup][number];

export const instant = z.union([z.iso.datetime({ offset: true }), z.iso.date()], {
  error: 'must be a time like 2026-11-20T10:00:00Z or a date like 2026-11-20',
});
const name = z.string().min(1).max(256);
const isGroup = (text: string): text is UsageGroup => (USAGE_GROUPS as readonly string[]).includes(text);
const groups = z.string().transform((text, context): UsageGroup[] => {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.every(isGroup)) return parts;
  context.addIssue({ code: 'custom', message: `must be a list of ${USAGE_GROUPS.join(', ')}` });
  return z.NEVER;
});

/** The query string of `GET /api/usage`. */
export const usageParamsSchema = z.strictObject({
  from: instant.optional(),
  to: instant.optional(),
  groupBy: groups.optional(),
  granularity: z.enum(GRANULARITIES).default('day'),
  project: name.optional(),
  keyId: name.optional(),
  model: name.optional(),
  cursor: z.string().max(4_096).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_ROWS).default(MAX_ROWS),
});
export type UsageParams = z.infer<typeof usageParamsSchema>;

/** A query without anything left to default. Times in ms since the epoch, half-open `[from, to)`. */
export interface UsageQuery {
  readonly granularity: Granularity;
  readonly from: number;
  readonly to: number;
  readonly columns: readonly GroupColumn[];
  readonly filters: { readonly project?: string; readonly key_id?: string; readonly model?: string };
  readonly limit: number;
  /** Position of the last row that was given: begin of its bucket, then its columns. */
  readonly after: { readonly bucket: number; readonly values: readonly string[] } | undefined;
}

/**
 * The query a request means. A bucket belongs to the window in which it begins, so that windows side by side count
 * nothing twice and leave nothing out.
 * @param projectOfKey the project a management key is bound to; null = the whole organization
 * @throws Rejected `invalid_request` with the parameter's name, `project_scope_mismatch`
 */
export function usageQuery(params: UsageParams, projectOfKey: string | null, now: number): UsageQuery {
  if (projectOfKey !== null && params.project !== undefined && params.project !== projectOfKey) {
    throw new Rejected('project_scope_mismatch', undefined, { param: 'project' });
  }
  const project = projectOfKey ?? params.project;
  const shape = {
    granularity: params.granularity,
    columns: [...new Set((params.groupBy ?? []).flatMap((group): readonly GroupColumn[] => COLUMNS[group]))],
    filters: {
      ...(project === undefined ? {} : { project }),
      ...(params.keyId === undefined ? {} : { key_id: params.keyId }),
      ...(params.model === undefined ? {} : { model: params.model }),
    },
  };
  const cursor = params.cursor === undefined ? undefined : readCursor(params.cursor);
  if (cursor && (cursor.shape !== JSON.stringify(shape) || cursor.values.length !== shape.columns.length)) {
    throw new Rejected('invalid_request', 'cursor: belongs to another query.', { param: 'cursor' });
  }
  const span = WINDOW_DAYS[params.granularity] * DAY_MS;
  const to = params.to === undefined ? (cursor?.to ?? now) : Date.parse(params.to);
  const from = params.from === undefined ? (cursor?.from ?? defaultFrom(to, span)) : Date.parse(params.from);
  if (from >= to) throw new Rejected('invalid_request', 'from: must be before to.', { param: 'from' });
  if (to - from > span) {
    const longest = `${WINDOW_DAYS[params.granularity]} day${WINDOW_DAYS[params.granularity] === 1 ? '' : 's'}`;
    throw new Rejected(
      'invalid_request',
      `from: with granularity ${params.granularity} the window is at most ${longest}.`,
      {
        param: 'from',
      },
    );
  }
  return { ...shape, from, to, limit: params.limit, after: cursor && { bucket: cursor.bucket, values: cursor.values } };
}

/** This month so far, or as much of its end as the granularity allows. */
const defaultFrom = (to: number, span: number): number => {
  const end = new Date(to - 1);
  return Math.max(Date.UTC(end.getUTCFullYear(), end.getUTCMonth(), 1), to - span);
};

const cursorSchema = z.object({
  shape: z.string(),
  from: z.number().int(),
  to: z.number().int(),
  bucket: z.number().int(),
  values: z.array(z.string()),
});

/** The cursor carries the window, so that a page of "until now" goes on with the same now. */
function readCursor(text: string): z.infer<typeof cursorSchema> {
  try {
    const cursor: unknown = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
    return cursorSchema.parse(cursor);
  } catch (cause) {
    throw new Rejected('invalid_request', 'cursor: is not one of ours.', { param: 'cursor', cause });
  }
}

export function cursorAfter(query: UsageQuery, row: SummedRow): string {
  const shape = JSON.stringify({ granularity: query.granularity, columns: query.columns, filters: query.filters });
  const values = query.columns.map((column) => row[column]!);
  const cursor: z.infer<typeof cursorSchema> = { shape, from: query.from, to: query.to, bucket: row.bucket, values };
  return Buffer.from(JSON.stringify(cursor)).toString('base64url');
}

/** A row as summed from a rollup: counts and pico-USD as decimal strings. */
export interface SummedRow extends Partial<Record<GroupColumn, string>> {
  readonly bucket: number;
  readonly key_name: string | null;
  readonly requests: string;
  readonly errors: string;
  readonly input_tokens: string;
  readonly cached_input_tokens: string;
  readonly output_tokens: string;
  readonly audio_ms: string;
  readonly cost: string;
}

export function usageRow(row: SummedRow): UsageRow {
  return {
    bucket: rfc3339(row.bucket),
    ...(row.key_id === undefined ? {} : { keyId: row.key_id, keyName: row.key_name }),
    ...(row.model === undefined ? {} : { model: row.model }),
    ...(row.project === undefined ? {} : { project: row.project }),
    ...(row.workload === undefined ? {} : { workload: row.workload }),
    requestCount: count(row.requests),
    errorCount: count(row.errors),
    inputTokens: count(row.input_tokens),
    cachedInputTokens: count(row.cached_input_tokens),
    outputTokens: count(row.output_tokens),
    totalTokens: count(String(BigInt(row.input_tokens) + BigInt(row.output_tokens))),
    audioMs: count(row.audio_ms),
    cost: formatUsd(BigInt(row.cost)),
    currency: 'USD',
  };
}

/** JSON numbers are exact to 2^53; what is beyond goes as a string. */
export const count = (text: string): number | string => (Number.isSafeInteger(Number(text)) ? Number(text) : text);

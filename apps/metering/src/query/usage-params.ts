import { Rejected } from '@sluice/contracts/errors';
import { MAX_USAGE_ROWS, USAGE_GRANULARITIES, USAGE_GROUPS, USAGE_INCLUDES } from '@sluice/contracts/metering';
import { z } from 'zod';

export type UsageGroup = (typeof USAGE_GROUPS)[number];
export type UsageInclude = (typeof USAGE_INCLUDES)[number];
const MAX_GROUPS = 3;

/** Of the last millisecond whose year has four digits: what PostgreSQL and RFC 3339 both read. */
export const MAX_TIME = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

export const instant = z
  .union([z.iso.datetime({ offset: true }), z.iso.date()], {
    error: 'must be a time like 2026-11-20T10:00:00Z or a date like 2026-11-20',
  })
  .refine((text) => Date.parse(text) >= 0 && Date.parse(text) <= MAX_TIME, 'must be between the years 1970 and 9999');

/** What PostgreSQL can hold as a text. */
export const textSchema = z.string().refine((text) => !text.includes('\0'), 'must not contain the character U+0000');
const name = textSchema.min(1).max(256);

/** A list of names with commas between them, each of them once. */
const listOf = <Name extends string>(allowed: readonly Name[], most: number = allowed.length) =>
  z.string().transform((text, context): Name[] => {
    const parts = [...new Set(text.split(',').map((part) => part.trim()))];
    const names = parts.flatMap((part) => allowed.find((one) => one === part) ?? []);
    const message =
      names.length < parts.length
        ? `must be a list of ${allowed.join(', ')}`
        : names.length > most
          ? `must be at most ${most} of ${allowed.join(', ')}`
          : undefined;
    if (message === undefined) return names;
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });

export const groupsAmong = <Group extends string>(allowed: readonly Group[]) => listOf(allowed, MAX_GROUPS);

/** Of what can't be said of one parameter alone. @param what of the parameter is wrong, without a full stop */
export const refused = (param: string, what: string, cause?: unknown): Rejected =>
  new Rejected('invalid_request', `${param}: ${what}.`, { param, cause });

const which = {
  from: instant.optional(),
  to: instant.optional(),
  groupBy: groupsAmong(USAGE_GROUPS).optional(),
  granularity: z.enum(USAGE_GRANULARITIES).default('day'),
  project: name.optional(),
  model: name.optional(),
  workload: name.optional(),
  include: listOf(USAGE_INCLUDES).optional(),
};
const ofKeys = { keyId: name.optional(), tag: name.optional() };
export const page = {
  cursor: z.string().max(8_192).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_USAGE_ROWS).default(MAX_USAGE_ROWS),
};

/** The query string of `GET /api/usage`. */
export const usageParamsSchema = z.strictObject({ ...which, ...ofKeys, ...page });

/** Of `GET /api/keys/:id/usage` and `GET /v1/key/usage`: one key is not told apart by keys. */
export const keyUsageParamsSchema = z.strictObject({
  ...which,
  groupBy: groupsAmong<UsageGroup>(USAGE_GROUPS.filter((group) => group !== 'key' && group !== 'tag')).optional(),
  ...page,
});

export const EXPORT_FORMATS = ['csv', 'jsonl'] as const;

/** Of `GET /api/usage/export`: all rows of the window, so no pages. */
export const usageExportParamsSchema = z.strictObject({
  ...which,
  ...ofKeys,
  format: z.enum(EXPORT_FORMATS).default('jsonl'),
});

/** What may be asked, wherever it is asked. */
export type UsageParams = Partial<z.infer<typeof usageParamsSchema>> & z.infer<typeof keyUsageParamsSchema>;

import { z } from 'zod';

/** Dimensions that `GET /api/usage` can group by. */
export const USAGE_GROUPS = ['key', 'model', 'project', 'workload'] as const;
export const GRANULARITIES = ['minute', 'hour', 'day'] as const;

const int = z.union([z.number().int().nonnegative(), z.string().regex(/^\d+$/)]);

/** A row of `GET /api/usage`; a field of a dimension not grouped by is absent; counts beyond 2^53 are strings. */
export const usageRowSchema = z.object({
  bucket: z.iso.datetime(),
  keyId: z.string().optional(),
  keyName: z.string().nullable().optional(),
  model: z.string().optional(),
  project: z.string().optional(),
  workload: z.string().optional(),
  requestCount: int,
  errorCount: int,
  inputTokens: int,
  cachedInputTokens: int,
  outputTokens: int,
  totalTokens: int,
  /** tokens × price at the version each request was admitted with, decimal USD. */
  cost: z.string(),
  currency: z.literal('USD'),
});
export type UsageRow = z.infer<typeof usageRowSchema>;

import { z } from 'zod';

const limit = z.number().int().positive().nullable();

/**
 * What all keys of an organization, or of a project, have together: requests and tokens per minute, and requests in flight
 * at once; null = as many as come. In stored events: a storage format.
 */
export const limitsSchema = z.object({ rpm: limit, tpm: limit, concurrency: limit });
export type Limits = z.infer<typeof limitsSchema>;
/** What is left out stays as it is. */
export const limitsChangeSchema = limitsSchema.partial();
export type LimitsChange = z.infer<typeof limitsChangeSchema>;

export const NO_LIMITS: Limits = { rpm: null, tpm: null, concurrency: null };

/** What is given replaces what was; null takes a limit away. */
export const changedLimits = (limits: Limits, { rpm, tpm, concurrency }: LimitsChange): Limits => ({
  rpm: rpm === undefined ? limits.rpm : rpm,
  tpm: tpm === undefined ? limits.tpm : tpm,
  concurrency: concurrency === undefined ? limits.concurrency : concurrency,
});

/** The fields of a change that change something; undefined when none does. */
export function newIn(limits: Limits, change: LimitsChange): LimitsChange | undefined {
  const after = changedLimits(limits, change);
  const news = Object.entries(after).filter(([name, value]) => limits[name as keyof Limits] !== value);
  return news.length === 0 ? undefined : Object.fromEntries(news);
}

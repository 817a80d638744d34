import { baseConfig, defineConfig } from '@sluice/service-kit';
import { z } from 'zod';

/** Days of minutes that are kept; hours and days stay. */
export const minuteRetentionDays = z.coerce.number().int().min(1).max(366).default(7);

export const meteringConfig = defineConfig({
  ...baseConfig,
  /** metering's own database. */
  DATABASE_URL: z.url(),
  /** With user and password in it. */
  NATS_URL: z.url(),
  /**
   * Days of usage records that are kept, today not counted; what comes later of a request is set aside. At least as long as
   * the stream keeps them.
   */
  RETENTION_DAYS: z.coerce.number().int().min(15).max(3_650).default(90),
  MINUTE_RETENTION_DAYS: minuteRetentionDays,
  /** Milliseconds between two messages about the totals of one key. */
  KEY_TOTALS_EVERY_MS: z.coerce.number().int().min(10).max(3_600_000).default(5_000),
  /** Milliseconds that a published record must be missing for, before its gateway is asked to publish it again. */
  GAP_AFTER_MS: z.coerce.number().int().min(100).max(3_600_000).default(10_000),
  /** Days for which counts of refused requests are kept. */
  REFUSAL_RETENTION_DAYS: z.coerce.number().int().min(1).max(3_650).default(31),
});
export type MeteringConfig = ReturnType<typeof meteringConfig>;

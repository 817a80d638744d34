import { baseConfig, defineConfig } from '@sluice/service-kit';
import { z } from 'zod';

export const meteringConfig = defineConfig({
  ...baseConfig,
  /** metering's own database. */
  DATABASE_URL: z.url(),
  /** With user and password in it. */
  NATS_URL: z.url(),
  /** Milliseconds between two messages about the totals of one key. */
  KEY_TOTALS_EVERY_MS: z.coerce.number().int().min(10).max(3_600_000).default(5_000),
});
export type MeteringConfig = ReturnType<typeof meteringConfig>;

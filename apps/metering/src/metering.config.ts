import { baseConfig, defineConfig } from '@sluice/service-kit';
import { z } from 'zod';

export const meteringConfig = defineConfig({
  ...baseConfig,
  /** metering's own database. */
  DATABASE_URL: z.url(),
  /** With user and password in it. */
  NATS_URL: z.url(),
});
export type MeteringConfig = ReturnType<typeof meteringConfig>;

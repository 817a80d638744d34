import { baseConfig, defineConfig } from '@sluice/service-kit';
import { z } from 'zod';

export const billingConfig = defineConfig({
  ...baseConfig,
  /** billing's own database. */
  DATABASE_URL: z.url(),
  /** With user and password in it. */
  NATS_URL: z.url(),
  /** A price list that is read at every start: `{"prices": [{"model", "prices": {"input", "cachedInput", "output"}}]}`. */
  PRICES_FILE: z.string().min(1).optional(),
});
export type BillingConfig = ReturnType<typeof billingConfig>;

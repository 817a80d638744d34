import { baseConfig, defineConfig, json } from '@sluice/service-kit';
import { z } from 'zod';

export const billingConfig = defineConfig({
  ...baseConfig,
  /** billing's own database. */
  DATABASE_URL: z.url(),
  /** With user and password in it. */
  NATS_URL: z.url(),
  /** Milliseconds between two messages about the spend of one key. */
  KEY_SPEND_EVERY_MS: z.coerce.number().int().min(10).max(3_600_000).default(5_000),
  /** Milliseconds that a published record must be missing for, before its gateway is asked to publish it again. */
  GAP_AFTER_MS: z.coerce.number().int().min(100).max(3_600_000).default(10_000),
  /** A price list that is read at every start: `{"prices": [{"model", "prices": {"input", "cachedInput", "output"}}]}`. */
  PRICES_FILE: z.string().min(1).optional(),
  /**
   * Payments by Stripe: `{"secretKey", "webhookSecret", "returnUrl"}`; `apiUrl` is another server than Stripe's own, for
   * tests. Without it only operators give credit.
   */
  STRIPE: json(
    z.strictObject({
      secretKey: z.string().min(1),
      webhookSecret: z.string().min(1),
      returnUrl: z.url(),
      apiUrl: z.url().optional(),
    }),
  ).optional(),
});
export type BillingConfig = ReturnType<typeof billingConfig>;

import { baseConfig, defineConfig } from '@sluice/service-kit';
import { z } from 'zod';

export const authConfig = defineConfig({
  ...baseConfig,
  DATABASE_URL: z.url(),
  NATS_URL: z.url(),
  BILLING_URL: z.url(),
  /** Operator credentials that exist from the start: base64url SHA-256 digests, separated by commas. Never the secrets. */
  OPERATOR_KEY_DIGESTS: z
    .string()
    .default('')
    .transform((text) => text.split(',').filter((digest) => digest !== ''))
    .pipe(z.array(z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be base64url SHA-256 digests'))),
});
export type AuthConfig = ReturnType<typeof authConfig>;

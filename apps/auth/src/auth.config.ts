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
  /**
   * Where the heads of the audit chains are exported to, after every start and daily: JSON lines, only ever appended.
   * On a disk that whoever can write to the database can't write to.
   */
  AUDIT_HEADS_FILE: z.string().min(1).optional(),
});
export type AuthConfig = ReturnType<typeof authConfig>;

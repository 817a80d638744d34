import { baseConfig, ConfigError, defineConfig, secretPrefixes } from '@sluice/service-kit';
import { z } from 'zod';

const settings = defineConfig({
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
  /** Between two rounds of the canary, which shows that a revoke is in force when it says so; 0: none. */
  CANARY_SECONDS: z.coerce.number().int().min(0).max(3_600).default(10),
  /** The same as the gateways'. */
  SECRET_PREFIXES: secretPrefixes,
  /** How long a session lives, whatever is done with it. */
  SESSION_HOURS: z.coerce.number().int().min(1).max(720).default(12),
  /** A company's own provider of sign-ins (OpenID Connect): all four, or none. */
  OIDC_ISSUER: z.url({ protocol: /^https?$/ }).optional(),
  OIDC_CLIENT_ID: z.string().min(1).optional(),
  OIDC_CLIENT_SECRET: z.string().min(16).optional(),
  /** Where the provider sends the browser back to; it hands the whole URL to POST /api/auth/oidc/finish. */
  OIDC_REDIRECT_URL: z.url({ protocol: /^https?$/ }).optional(),
  /** Plain HTTP to the provider, outside production only. */
  OIDC_ALLOW_HTTP: z.stringbool().default(false),
  NODE_ENV: z.string().optional(),
});

export function authConfig(env: Record<string, string | undefined>) {
  // What is handed through by a file of compose is there and empty where nobody has set it.
  const given = Object.entries(env).filter(([name, value]) => !(name.startsWith('OIDC_') && value === ''));
  const config = settings(Object.fromEntries(given));
  return { ...config, oidc: oidcOf(config) };
}
export type AuthConfig = ReturnType<typeof authConfig>;

/** The provider's settings, if there is one. @throws ConfigError when only some are given, or sign-ins would go in the clear */
function oidcOf(config: ReturnType<typeof settings>) {
  const { OIDC_ISSUER: issuer, OIDC_CLIENT_ID: clientId, OIDC_CLIENT_SECRET: clientSecret } = config;
  const { OIDC_REDIRECT_URL: redirectUrl, OIDC_ALLOW_HTTP: allowHttp, NODE_ENV } = config;
  const given = [issuer, clientId, clientSecret, redirectUrl].filter((setting) => setting !== undefined).length;
  const complain = (sentence: string) => new ConfigError(`configuration is not valid:\n  ${sentence}`);
  if (given === 0) return undefined;
  if (!issuer || !clientId || !clientSecret || !redirectUrl)
    throw complain('OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_REDIRECT_URL: all four, or none');
  if (allowHttp && NODE_ENV === 'production') throw complain('OIDC_ALLOW_HTTP: not in production');
  if (!allowHttp && new URL(issuer).protocol === 'http:') throw complain('OIDC_ISSUER: must be an https URL');
  return { issuer, clientId, clientSecret, redirectUrl, allowHttp };
}

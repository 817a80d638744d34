import { DEFAULT_PREFIXES, parsePrefixes, type SecretPrefixes } from '@sluice/primitives/secret';
import { z } from 'zod';

/** What every service's configuration has; spread it into the service's own schema. */
export const baseConfig = {
  HOST: z.string().default('127.0.0.1'),
  PORT: z.coerce.number().int().min(0).max(65_535),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'silent']).default('info'),
  /** This service's Ed25519 private key as a JWK; its `kid` is the service's name. */
  SERVICE_PRIVATE_KEY: json(
    z.looseObject({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), d: z.string(), kid: z.string() }),
  ),
  /** Every service's public key: a JWKS. */
  SERVICE_PUBLIC_KEYS: json(z.object({ keys: z.array(z.looseObject({ kty: z.literal('OKP'), kid: z.string() })) })),
};

export type BaseConfig = z.infer<z.ZodObject<typeof baseConfig>>;

/** A setting whose text is JSON. */
export function json<T extends z.ZodType>(schema: T) {
  return z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: 'custom', message: 'is not JSON' });
        return z.NEVER;
      }
    })
    .pipe(schema);
}

/** Whole prefix strings of secrets, of a service that makes or reads them; none or empty: the usual ones. */
export const secretPrefixes = z
  .string()
  .default('')
  .transform((text, context): SecretPrefixes => {
    if (text === '') return DEFAULT_PREFIXES;
    try {
      return parsePrefixes(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
      return z.NEVER;
    }
  });

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Turns a schema into the one reader of the environment: all errors at once, by name, without their values, as a
 * value may be a secret.
 */
export function defineConfig<S extends z.ZodRawShape>(shape: S) {
  const schema = z.object(shape);
  return (env: Record<string, string | undefined>): z.infer<z.ZodObject<S>> => {
    const result = schema.safeParse(env);
    if (result.success) return result.data;
    const lines = result.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`);
    throw new ConfigError(`configuration is not valid:\n${lines.join('\n')}`);
  };
}

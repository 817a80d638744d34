import { z } from 'zod';
import { faultsSchema, NO_FAULTS } from './faults/faults.js';

const int = (min: number, max: number) => z.coerce.number().int().min(min).max(max);
const positive = z.coerce.number().positive().max(1e9);
const milliseconds = z.coerce.number().min(0).max(3_600_000);

const schema = z.object({
  HOST: z.string().default('127.0.0.1'),
  PORT: int(0, 65_535),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'silent']).default('info'),
  WORKER_ID: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1-64 of A-Z a-z 0-9 _ -'),
  /** The base URL, without /v1, that heartbeats tell; default: http://HOST:PORT as bound. */
  WORKER_URL: z.url({ protocol: /^https?$/ }).optional(),
  WORKER_SECRET: z.string().min(16, 'must have at least 16 characters'),
  /** Model ids, separated by commas. */
  WORKER_MODELS: z
    .string()
    .transform((text) => text.split(',').map((id) => id.trim()))
    .pipe(z.array(z.string().min(1).max(200)).min(1).max(100)),
  /** What it speaks, separated by commas: `openai`, `messages`. */
  WORKER_DIALECTS: z
    .string()
    .default('openai')
    .transform((text) => text.split(',').map((name) => name.trim()))
    .pipe(z.array(z.enum(['openai', 'messages'])).min(1)),
  /** Prompt + answer, in tokens, of every model. */
  MAX_MODEL_LEN: int(16, 10_000_000).default(32_768),
  /** The append-only NDJSON file of what was generated. */
  WORKER_LOG: z.string().min(1),
  MAX_BODY_BYTES: int(1_024, 1_073_741_824).default(16 * 1_048_576),
  /** Of an uploaded sound. */
  MAX_AUDIO_BYTES: int(1_024, 1_073_741_824).default(512 * 1_048_576),

  /** Sequences that run at once. */
  SLOTS: int(1, 10_000).default(32),
  /** Sequences that may wait for a slot; beyond: 429. */
  MAX_WAITING: int(0, 100_000).default(1_024),
  PREFILL_TOKENS_PER_SECOND: positive.default(32_000),
  /** Added to every prefill. */
  PREFILL_OVERHEAD_MS: milliseconds.default(10),
  /** A decoding step takes DECODE_MS + DECODE_MS_PER_SEQUENCE × sequences in the batch; each gets one token. */
  DECODE_MS: milliseconds.default(8),
  DECODE_MS_PER_SEQUENCE: milliseconds.default(0.1),

  CACHE_BLOCK_TOKENS: int(1, 4_096).default(16),
  CACHE_CAPACITY_TOKENS: int(1, 100_000_000).default(320_000),
  EMBEDDING_DIMENSIONS: int(1, 16_384).default(256),

  /** Faults to begin with, JSON as for POST /sim/faults. */
  FAULTS: z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: 'custom', message: 'is not JSON' });
        return z.NEVER;
      }
    })
    .pipe(faultsSchema)
    .default(NO_FAULTS),

  /** Where heartbeats go; without it the worker serves and announces itself to nobody. */
  NATS_URL: z.string().min(1).optional(),
  /** Milliseconds that running answers get after SIGTERM. */
  SHUTDOWN_GRACE_MS: milliseconds.default(10_000),
});

export type SimWorkerConfig = z.infer<typeof schema>;

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** All errors at once, by name and without the values, as a value may be a secret. */
export function simWorkerConfig(env: Record<string, string | undefined> = process.env): SimWorkerConfig {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  const lines = result.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`);
  throw new ConfigError(`configuration is not valid:\n${lines.join('\n')}`);
}

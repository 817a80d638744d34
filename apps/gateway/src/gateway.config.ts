import { baseConfig, defineConfig, secretPrefixes } from '@sluice/service-kit';
import { z } from 'zod';
import { parseBlock } from './keys/address-blocks.js';

const bytes = (fallback: number) => z.coerce.number().int().min(1).default(fallback);

export const gatewayConfig = defineConfig({
  ...baseConfig,
  NATS_URL: z.url(),
  REDIS_URL: z.url(),
  AUTH_URL: z.url(),
  BILLING_URL: z.url(),
  METERING_URL: z.url(),
  ROUTER_URL: z.url(),
  /** Where auth reaches this process; default: HOST and PORT. */
  GATEWAY_URL: z.url().optional(),
  /** The usage journals of this gateway instance; a folder of its own on a disk that lasts. */
  JOURNAL_DIR: z.string().min(1),
  JOURNAL_SEGMENT_BYTES: z.coerce
    .number()
    .int()
    .min(4_096)
    .default(16 * 1024 * 1024),
  /** Bytes of journals that are not settled yet; beyond them nothing is admitted. About 1.2 KB a request. */
  JOURNAL_MAX_BYTES: z.coerce
    .number()
    .int()
    .min(1_048_576)
    .default(16 * 1024 * 1024 * 1024),
  KEY_CACHE: z.coerce.number().int().min(1).default(1_000_000),
  /** The same as auth's. */
  SECRET_PREFIXES: secretPrefixes,
  /** Proxies before the gateways, as addresses and CIDR blocks separated by commas: what they forward for is the client. */
  TRUSTED_PROXIES: z
    .string()
    .default('')
    .transform((text) => text.split(',').flatMap((entry) => entry.trim() || []))
    .pipe(z.array(z.string().refine((text) => parseBlock(text) !== undefined, 'must be addresses or CIDR blocks'))),
  /** How many gateways run: each enforces its share of a key's rate while Redis is away. */
  GATEWAYS: z.coerce.number().int().min(1).max(10_000).default(1),
  /** Milliseconds for which a client may take nothing of an answer that waits for it; then it is taken to be gone. */
  CLIENT_STALL_MS: z.coerce.number().int().min(100).max(3_600_000).default(60_000),
  /** Bytes of a request's body. */
  BODY_LIMIT: bytes(10 * 1024 * 1024),
  /** Bytes of a form with a file, which passes through. */
  UPLOAD_LIMIT: bytes(256 * 1024 * 1024),
  /** Bytes of a file that are held while its `model` has not come yet: of one upload, and of all of them together. */
  UPLOAD_HOLD: bytes(25 * 1024 * 1024),
  UPLOADS_HELD: bytes(256 * 1024 * 1024),
});
export type GatewayConfig = ReturnType<typeof gatewayConfig>;

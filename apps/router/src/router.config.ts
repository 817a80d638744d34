import { DEFAULT_DIALECTS, workerDialects } from '@sluice/contracts/router';
import { baseConfig, defineConfig, json } from '@sluice/service-kit';
import { z } from 'zod';
import { AllowList } from './workers/allow-list.js';

const milliseconds = (fallback: number) => z.coerce.number().int().min(1).max(86_400_000).default(fallback);
const count = (fallback: number) => z.coerce.number().int().min(1).default(fallback);

export const routerConfig = defineConfig({
  ...baseConfig,
  NATS_URL: z.string().min(1),
  /** Workers that are there without heartbeats: `[{"id","url","models":["…"],"slots"?,"dialects"?}]`. */
  WORKERS: json(
    z.array(
      z.strictObject({
        id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
        url: z.url(),
        models: z.array(z.string().min(1)).min(1),
        slots: z.number().int().positive().default(32),
        dialects: workerDialects.default([...DEFAULT_DIALECTS]),
      }),
    ),
  ).default([]),
  /** Hosts a worker may stand on: names, `.suffixes`, CIDRs, by comma. A heartbeat from elsewhere is not believed. */
  WORKER_ALLOW: z
    .string()
    .default('127.0.0.0/8,::1,localhost')
    .transform((text, context) => {
      try {
        return new AllowList(text.split(','));
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message });
        return z.NEVER;
      }
    }),
  /** Bearer secrets of the workers: `{"<worker id>": "…", "*": "…"}`; `*` is for those not named. */
  WORKER_SECRETS: json(z.record(z.string(), z.string().min(1))).default({}),
  DEFAULT_DEADLINE_MS: milliseconds(600_000),
  MAX_DEADLINE_MS: milliseconds(3_600_000),
  CONNECT_TIMEOUT_MS: milliseconds(2_000),
  /** To a worker's response head; an engine that does not stream sends it when all is generated. */
  HEADERS_TIMEOUT_MS: milliseconds(600_000),
  /** Between two pieces of a worker's answer; the prefill lies between a stream's head and its first piece. */
  IDLE_TIMEOUT_MS: milliseconds(300_000),
  /** How long a request waits for a worker of its model to appear. */
  WAIT_FOR_WORKER_MS: milliseconds(3_000),
  MAX_WAITING: count(1_000),
  MAX_IN_FLIGHT: count(4_000),
  MAX_BODY_BYTES_IN_FLIGHT: count(512 * 1024 * 1024),
});
export type RouterConfig = ReturnType<typeof routerConfig>;

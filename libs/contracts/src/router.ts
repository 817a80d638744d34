import { z } from 'zod';

/** What a worker may be asked in: `openai` is chat completions and all beside them, `messages` Anthropic's `/v1/messages`. */
export type WorkerDialect = 'openai' | 'messages';
/** What one speaks that says nothing of it. */
export const DEFAULT_DIALECTS: readonly string[] = ['openai'];
/** Names that are not known here are of workers that are newer than this. */
export const workerDialects = z.array(z.string().min(1).max(32)).min(1).max(16);

/** On `workers.v1.heartbeat.<id>`, every second; a worker silent for 5 s is asked for its health, then given up. */
export const workerHeartbeatSchema = z.object({
  id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  /** Base URL without `/v1`. */
  url: z.url(),
  models: z
    .array(z.object({ id: z.string(), maxModelLen: z.number().int().positive().optional() }))
    .min(1)
    .max(100),
  slots: z.number().int().positive(),
  running: z.number().int().nonnegative(),
  waiting: z.number().int().nonnegative(),
  /** 0…1 */
  kvCacheUsage: z.number().min(0).max(1),
  cacheCapacityTokens: z.number().int().positive().optional(),
  version: z.string().max(100),
  dialects: workerDialects.optional(),
});
export type WorkerHeartbeat = z.infer<typeof workerHeartbeatSchema>;

export const HEARTBEAT_INTERVAL_MS = 1_000;
export const HEARTBEAT_GONE_MS = 5_000;

/** `GET /internal/models` of the router: each model that it has workers for, with the dialects that all of them speak. */
export const servedModelsSchema = z.object({
  models: z.array(z.object({ id: z.string(), dialects: z.array(z.string()) })),
});
export type ServedModels = z.infer<typeof servedModelsSchema>;

/** Headers between gateway and router, and from the router back. */
export const ROUTER_HEADERS = {
  /** The model the worker is asked for, percent-encoded; the router places by it without reading the body. */
  model: 'x-sluice-model',
  workload: 'x-sluice-workload',
  /** Milliseconds the whole request may still take. */
  deadlineMs: 'x-sluice-deadline-ms',
  /** The gateway's OPEN of the request as JSON, for a usage record should the gateway vanish. Absent: it costs nothing. */
  opened: 'x-sluice-opened',
  /** On the answer: which worker, and which attempt (from 1) it was. */
  worker: 'x-sluice-worker',
  attempt: 'x-sluice-attempt',
} as const;

/** What a worker gets as `X-Request-Id`. */
export const attemptId = (requestId: string, attempt: number): string => `${requestId}.${attempt}`;

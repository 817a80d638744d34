import { USAGE_RANK, type OpenedRequest, type UsageRecord } from './gateway.js';

/** Tokens by the last count that was seen of a request. */
export interface Counts {
  readonly input: number;
  readonly cachedInput: number;
  readonly output: number;
  /** They are not the worker's. */
  readonly estimated?: boolean;
  /** Of a sound that is transcribed. */
  readonly audio?: { readonly ms: number };
}

/** Who tells of a request whose gateway died, and how far it had seen it. */
export interface Witnessed {
  readonly counts: Counts | undefined;
  readonly seq: number;
  /** RFC 3339 */
  readonly endedAt: string;
  readonly worker: string | null;
  /** From 1. */
  readonly attempt: number;
  /** Of a record without counts. */
  readonly uncounted: number;
}

/** The record of a request whose gateway died: what the last count says, and never more. */
export function recordOfLost(request: OpenedRequest, witnessed: Witnessed): UsageRecord {
  const { counts, seq, endedAt, worker, attempt, uncounted } = witnessed;
  return {
    ...request,
    seq,
    attempt,
    outcome: 'aborted',
    rank: counts ? (counts.estimated ? USAGE_RANK.tokenizer : USAGE_RANK.workerRunning) : uncounted,
    estimated: counts?.estimated ?? false,
    inputTokens: String(counts?.input ?? 0),
    cachedInputTokens: String(counts?.cachedInput ?? 0),
    outputTokens: String(counts?.output ?? 0),
    ...(counts?.audio ? { audioMs: String(counts.audio.ms) } : {}),
    worker,
    endedAt,
    ttftMs: null,
  };
}

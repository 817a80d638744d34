import { isCount } from '@sluice/contracts/worker-usage';
import { Pieces } from '../inference/pieces.js';
import type { Reading } from '../inference/reading.js';
import { dataOf, NOTHING, type WorkerEvent } from '../inference/sse.js';
import type { ReportedUsage } from '../inference/usage.js';

/**
 * Reads the messages of a worker that speaks them: their bytes pass through as they are. The input is told as the stream
 * begins and the output at its end, so what a stream that breaks off has taken is counted here by the pieces that came.
 */
export class MessagesReading implements Reading {
  /** The events of this dialect have no numbers. */
  readonly sequence = 0;
  private readonly pieces: Pieces;
  private started: ReportedUsage | undefined;
  private ended = false;

  /** @param estimateInput tokens; asked for once, and only when something was generated and the worker has told no input */
  constructor(estimateInput: () => number) {
    this.pieces = new Pieces(estimateInput);
  }

  usage(answer: unknown): ReportedUsage | undefined {
    return usageOf((answer as { usage?: unknown } | null)?.usage, undefined);
  }

  event(bytes: Buffer): WorkerEvent {
    const data = dataOf(bytes);
    if (data === undefined) return { bytes, usage: undefined, done: false, failed: false };
    // vLLM ends with it; the dialect ends with message_stop.
    if (this.ended || data === '[DONE]') return NOTHING;
    const event = JSON.parse(data) as Partial<WorkersEvent> | null;
    switch (event?.type) {
      case 'message_start':
        this.started = started(event.message?.usage);
        if (this.started) this.pieces.input(this.started);
        return { bytes, usage: undefined, guess: this.started, done: false, failed: false };
      case 'content_block_delta':
        return { bytes, usage: undefined, guess: this.guess(event.delta), done: false, failed: false };
      case 'message_delta':
        return { bytes, usage: usageOf(event.usage, this.started), done: false, failed: false };
      case 'message_stop':
        this.ended = true;
        return { bytes, usage: undefined, done: true, failed: false };
      default:
        // A failure does not go out: an event of our own takes its place.
        return { bytes, usage: undefined, done: false, failed: event?.type === 'error' };
    }
  }

  private guess(delta: WorkersEvent['delta'] | undefined): ReportedUsage | undefined {
    const piece = delta?.text ?? delta?.thinking ?? delta?.partial_json;
    return typeof piece === 'string' && piece !== '' ? this.pieces.came() : undefined;
  }
}

interface WorkersEvent {
  readonly type: unknown;
  readonly message: { readonly usage?: unknown } | null;
  readonly delta: { readonly text?: unknown; readonly thinking?: unknown; readonly partial_json?: unknown } | null;
  readonly usage: unknown;
}

/** The input that a stream begins with; an engine that does not know it yet says 0. */
function started(value: unknown): ReportedUsage | undefined {
  const usage = usageOf(value, undefined);
  return usage && usage.input > 0 ? { ...usage, output: 0 } : undefined;
}

/**
 * The dialect tells apart what was read from the cache and what was written to it; both are input. At the end of a stream the
 * input may be left out, as it was told before. Undefined unless every count is sane.
 */
function usageOf(value: unknown, before: ReportedUsage | undefined): ReportedUsage | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const usage = value as Record<string, unknown>;
  const { input_tokens: fresh, output_tokens: output } = usage;
  const cachedInput = usage['cache_read_input_tokens'] ?? 0;
  const written = usage['cache_creation_input_tokens'] ?? 0;
  if (!isCount(output)) return undefined;
  if ((fresh ?? undefined) === undefined) return before && { ...before, output };
  if (!isCount(fresh) || !isCount(cachedInput) || !isCount(written)) return undefined;
  const input = fresh + cachedInput + written;
  return isCount(input) ? { input, cachedInput, output } : undefined;
}

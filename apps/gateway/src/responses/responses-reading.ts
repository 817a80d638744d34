import { isCount, readResponsesUsage } from '@sluice/contracts/worker-usage';
import { Pieces } from '../inference/pieces.js';
import type { Reading } from '../inference/reading.js';
import { dataOf, NOTHING, type WorkerEvent } from '../inference/sse.js';
import type { ReportedUsage } from '../inference/usage.js';
import { Said } from '../tokens/said.js';

/** The events with which a stream ends well: they carry the usage, and are held back until the END is on the disk. */
const ENDS = new Set(['response.completed', 'response.incomplete']);
const FAILURES = new Set(['response.failed', 'error']);

/**
 * Reads a worker's responses: their bytes pass through as they are. Their usage is told at the end only, so what a stream
 * that breaks off has taken is counted here by the pieces that came.
 */
export class ResponsesReading implements Reading {
  sequence = 0;
  said: Said | undefined;
  private readonly pieces: Pieces;
  private ended = false;

  /** @param estimateInput tokens; asked for once, and only when something was generated */
  constructor(estimateInput: () => number) {
    this.pieces = new Pieces(estimateInput);
  }

  usage(answer: unknown): ReportedUsage | undefined {
    const counted = usageOf(answer);
    if (!counted) (this.said = new Said()).heard((answer as { output?: unknown } | null)?.output);
    return counted;
  }

  event(bytes: Buffer): WorkerEvent {
    const data = dataOf(bytes);
    if (data === undefined) return { bytes, usage: undefined, done: false, failed: false };
    // Some engines end every stream with it; this dialect ends with an event of its own.
    if (this.ended || data === '[DONE]') return NOTHING;
    const event = JSON.parse(data) as Partial<WorkersEvent> | null;
    const type = String(event?.type);
    const failed = FAILURES.has(type) || Boolean(event?.error);
    // A failure does not go out: an event of our own takes its place.
    if (!failed) this.sequence = isCount(event?.sequence_number) ? event.sequence_number + 1 : this.sequence + 1;
    this.ended = ENDS.has(type);
    const usage = this.ended || failed ? usageOf(event?.response) : undefined;
    return { bytes, usage, guess: this.guess(type, event?.delta), done: this.ended, failed };
  }

  private guess(type: string, delta: unknown): ReportedUsage | undefined {
    if (!type.endsWith('.delta') || typeof delta !== 'string' || delta === '') return undefined;
    this.said ??= new Said();
    this.said.add(delta);
    this.said.pieces++;
    return this.pieces.came();
  }
}

interface WorkersEvent {
  readonly type: unknown;
  readonly sequence_number: unknown;
  readonly delta: unknown;
  readonly response: unknown;
  readonly error: unknown;
}

const usageOf = (answer: unknown): ReportedUsage | undefined =>
  readResponsesUsage((answer as { usage?: unknown } | null | undefined)?.usage);

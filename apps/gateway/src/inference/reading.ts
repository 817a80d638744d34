import { readUsage } from '@sluice/contracts/worker-usage';
import { Said } from '../tokens/said.js';
import { dataOf, readWorkerEvent, type UsageWish, type WorkerEvent } from './sse.js';
import type { ReportedUsage } from './usage.js';

/** How the answer of a worker is read. One per request, as a stream is counted. */
export interface Reading {
  /** @throws SyntaxError for what is none of the worker's events */
  event(event: Buffer): WorkerEvent;
  /** Where answers are not all JSON. @throws SyntaxError */
  parse?(bytes: Buffer, contentType: string): unknown;
  /** What a whole answer says was used. */
  usage(answer: unknown): ReportedUsage | undefined;
  /** What was generated, as far as the worker has counted nothing; undefined where it counts, or nothing came. */
  readonly said?: Said | undefined;
  /** The number of the next event that the client gets, for dialects that number them. */
  readonly sequence: number;
  /** Vectors of a whole answer, once `usage` has read it; undefined where it has none. */
  readonly embeddings?: number | undefined;
}

/** Of everything that is shaped as completions are: usage is forced on the stream, and taken out again. */
export class CompletionsReading implements Reading {
  readonly sequence = 0;
  said: Said | undefined;
  embeddings: number | undefined;
  private counted = false;
  private input: number | undefined;

  /** @param estimateInput tokens; asked for once, and only when something was generated that the worker did not count */
  constructor(
    private readonly wish: UsageWish,
    private readonly estimateInput: () => number,
  ) {}

  event(event: Buffer): WorkerEvent {
    const read = readWorkerEvent(event, this.wish);
    if (read.usage) {
      this.counted = true;
      this.said = undefined;
    }
    // One that counts does so on every event, from the first: this is for those that count at the end, or never.
    return this.counted || read.done || read.failed ? read : { ...read, guess: this.guess(event) };
  }

  usage(answer: unknown): ReportedUsage | undefined {
    const { usage, choices, data } = (answer ?? {}) as { usage?: unknown; choices?: unknown; data?: unknown };
    if (Array.isArray(data)) this.embeddings = data.length;
    const counted = readUsage(usage);
    if (!counted) (this.said = new Said()).heard(choices);
    return counted;
  }

  private guess(event: Buffer): ReportedUsage | undefined {
    const before = this.said?.pieces ?? 0;
    (this.said ??= new Said()).heard(choicesOf(event));
    if (this.said.pieces === before) return undefined;
    this.input ??= this.estimateInput();
    return { input: this.input, cachedInput: 0, output: this.said.pieces };
  }
}

/** Undefined for what cannot be read: it is passed on as it is. */
function choicesOf(event: Buffer): unknown {
  try {
    return (JSON.parse(dataOf(event) ?? '') as { choices?: unknown } | null)?.choices;
  } catch {
    return undefined;
  }
}

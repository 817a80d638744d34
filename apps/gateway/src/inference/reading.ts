import { readWorkerEvent, type UsageWish, type WorkerEvent } from './sse.js';
import { readUsage, type ReportedUsage } from './usage.js';

/** How the answer of a worker is read. One per request, as a stream is counted. */
export interface Reading {
  /** @throws SyntaxError for what is none of the worker's events */
  event(event: Buffer): WorkerEvent;
  /** Where answers are not all JSON. @throws SyntaxError */
  parse?(bytes: Buffer, contentType: string): unknown;
  /** What a whole answer says was used. */
  usage(answer: unknown): ReportedUsage | undefined;
  /** The number of the next event that the client gets, for dialects that number them. */
  readonly sequence: number;
}

/** Of everything that is shaped as completions are: usage is forced on the stream, and taken out again. */
export const completionsReading = (wish: UsageWish): Reading => ({
  event: (event) => readWorkerEvent(event, wish),
  usage: (answer) => readUsage((answer as { usage?: unknown } | null)?.usage),
  sequence: 0,
});

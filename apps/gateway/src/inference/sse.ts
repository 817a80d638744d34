import { readUsage, type ReportedUsage } from './usage.js';

/** A worker that sends a longer event is broken; nothing is buffered without bound. */
export const MAX_EVENT_BYTES = 4 * 1024 * 1024;

const LF = 10;
const CR = 13;

export class SseError extends SyntaxError {
  override readonly name = 'SseError';
}

/** Splits a byte stream into whole events, each with its blank line, whatever the cuts between network chunks. */
export class EventSplitter {
  private rest: Buffer = Buffer.alloc(0);
  private scanned = 0;

  /** @throws SseError when an event grows over MAX_EVENT_BYTES */
  push(chunk: Buffer): Buffer[] {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    const events: Buffer[] = [];
    let start = 0;
    for (let end = this.endOfEvent(this.scanned); end !== -1; end = this.endOfEvent(start)) {
      events.push(this.rest.subarray(start, end));
      start = end;
    }
    this.rest = this.rest.subarray(start);
    // The blank line may be cut: look again from three bytes before the end.
    this.scanned = Math.max(0, this.rest.length - 3);
    if (this.rest.length > MAX_EVENT_BYTES) throw new SseError('an event is too long');
    return events;
  }

  /** Bytes of an event that has not ended. */
  get unfinished(): Buffer {
    return this.rest;
  }

  /** Index behind the next blank line (LF LF or CR LF CR LF), from where on it is looked for; -1 = not here yet. */
  private endOfEvent(from: number): number {
    for (let at = this.rest.indexOf(LF, from); at !== -1; at = this.rest.indexOf(LF, at + 1)) {
      if (this.rest[at + 1] === LF) return at + 2;
      if (this.rest[at + 1] === CR && this.rest[at + 2] === LF) return at + 3;
    }
    return -1;
  }
}

/** The `data` of an event, by the rules of SSE; undefined for a comment. */
export function dataOf(event: Buffer): string | undefined {
  const lines = event
    .toString('utf8')
    .split(/\r?\n/)
    .filter((line) => line.startsWith('data:'))
    .map((line) => line.slice(line[5] === ' ' ? 6 : 5));
  return lines.length === 0 ? undefined : lines.join('\n');
}

export interface WorkerEvent {
  /** What the client gets; empty when the event was only there because the gateway asked for it. */
  readonly bytes: Buffer;
  readonly usage: ReportedUsage | undefined;
  /** About what it must have been by now, where the worker does not count on the way. */
  readonly guess?: ReportedUsage | undefined;
  readonly done: boolean;
  /** The worker reported an error inside the stream. */
  readonly failed: boolean;
}

/** An event that is not passed on. */
export const NOTHING: WorkerEvent = { bytes: Buffer.alloc(0), usage: undefined, done: false, failed: false };

const USAGE_KEY = Buffer.from('"usage":');
const ERROR_KEY = Buffer.from('data: {"error"');
const DONE = Buffer.from('data: [DONE]');
const EMPTY = Buffer.alloc(0);
const EMPTY_CHOICES = Buffer.from('"choices":[]');

export interface UsageWish {
  readonly wantsUsage: boolean;
  readonly wantsContinuousUsage: boolean;
}

/**
 * Reads the usage that was forced on a worker's event and takes it out again where the client did not ask for it. The
 * other bytes stay as they are: the `usage` member is cut out, nothing is encoded again.
 */
export function readWorkerEvent(event: Buffer, wish: UsageWish): WorkerEvent {
  if (event.subarray(0, DONE.length).equals(DONE)) return { bytes: event, usage: undefined, done: true, failed: false };
  const failed = event.subarray(0, ERROR_KEY.length).equals(ERROR_KEY);
  const member = usageMember(event);
  if (member === undefined) return { bytes: event, usage: undefined, done: false, failed };
  const usage = readUsage(member.value);
  const last = event.includes(EMPTY_CHOICES);
  if (wish.wantsContinuousUsage || (last && wish.wantsUsage)) return { bytes: event, usage, done: false, failed };
  if (last) return { bytes: EMPTY, usage, done: false, failed };
  const bytes = Buffer.concat([event.subarray(0, member.from), event.subarray(member.to)]);
  return { bytes, usage, done: false, failed };
}

/** Where the top-level `usage` member stands, with the comma that goes with it. Inside strings quotes are escaped. */
function usageMember(event: Buffer): { from: number; to: number; value: unknown } | undefined {
  const key = event.lastIndexOf(USAGE_KEY);
  if (key <= 0) return undefined;
  let from = key;
  while (from > 0 && isSpace(event[from - 1]!)) from--;
  const commaBefore = event[from - 1] === 0x2c;
  if (!commaBefore && event[from - 1] !== 0x7b) return undefined; // an escaped quote: text, not a member
  const begin = skipSpace(event, key + USAGE_KEY.length);
  const end = endOfValue(event, begin);
  if (end === -1) return undefined;
  let to = end;
  if (commaBefore) from--;
  else if (event[skipSpace(event, end)] === 0x2c) to = skipSpace(event, end) + 1;
  try {
    return { from, to, value: JSON.parse(event.toString('utf8', begin, end)) };
  } catch {
    return undefined;
  }
}

/** End of the object or literal at `begin`; a usage object holds no strings with braces. -1 when it does not end. */
function endOfValue(event: Buffer, begin: number): number {
  if (event[begin] !== 0x7b) {
    let at = begin;
    while (at < event.length && event[at]! >= 0x61 && event[at]! <= 0x7a) at++;
    return at > begin ? at : -1;
  }
  let depth = 0;
  for (let at = begin; at < event.length; at++) {
    if (event[at] === 0x7b) depth++;
    else if (event[at] === 0x7d && --depth === 0) return at + 1;
  }
  return -1;
}

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x09 || byte === LF || byte === CR;

function skipSpace(event: Buffer, from: number): number {
  let at = from;
  while (at < event.length && isSpace(event[at]!)) at++;
  return at;
}

import { lastUsageMember, memberValue, readUsage, USAGE_KEY } from '@sluice/contracts/worker-usage';
import { closedBehind, ownMember, skipSpace } from '@sluice/primitives/json-bytes';
import type { ReportedUsage } from './usage.js';

/** A worker that sends a longer event is broken; nothing is buffered without bound. */
export const MAX_EVENT_BYTES = 4 * 1024 * 1024;

const LF = 10;
const CR = 13;
const COMMA = 0x2c;
const COLON = 0x3a;
const SMALL_N = 0x6e;
const OPEN = 0x7b;

export class SseError extends SyntaxError {
  override readonly name = 'SseError';
}

/** Splits a byte stream into whole events, each with its blank line, whatever the cuts between network chunks. */
export class EventSplitter {
  private rest: Buffer = Buffer.alloc(0);
  /** What `rest` is the front of, where it was put together here: the next piece goes behind it. */
  private room: Buffer | undefined;
  private scanned = 0;
  private begun = false;

  /** @throws SseError when an event grows over MAX_EVENT_BYTES */
  push(chunk: Buffer): Buffer[] {
    this.append(chunk);
    if (!this.begun && !this.begin()) return [];
    const events: Buffer[] = [];
    let start = 0;
    for (let end = this.endOfEvent(this.scanned); end !== -1; end = this.endOfEvent(start)) {
      events.push(this.rest.subarray(start, end));
      start = end;
    }
    if (start > 0) this.keepFrom(start);
    // The blank line may be cut: look again from three bytes before the end.
    this.scanned = Math.max(0, this.rest.length - 3);
    if (this.rest.length > MAX_EVENT_BYTES) throw new SseError('an event is too long');
    return events;
  }

  /** Bytes of an event that has not ended. */
  get unfinished(): Buffer {
    return this.rest;
  }

  /** Each byte of a long event is copied a few times at most, however small its pieces are. */
  private append(chunk: Buffer): void {
    const { rest, room } = this;
    const length = rest.length + chunk.length;
    if (rest.length === 0) {
      this.rest = chunk;
      this.room = undefined;
      return;
    }
    const whole = room && room.length >= length ? room : Buffer.allocUnsafe(2 * length);
    if (whole !== room) rest.copy(whole);
    chunk.copy(whole, rest.length);
    this.room = whole;
    this.rest = whole.subarray(0, length);
  }

  /** What was given away must not be written over. */
  private keepFrom(start: number): void {
    this.rest = this.rest.subarray(start);
    this.room = undefined;
  }

  /** A byte order mark is no part of the first event. @returns false while it may still be one */
  private begin(): boolean {
    if (BOM.subarray(0, this.rest.length).equals(this.rest.subarray(0, BOM.length))) {
      if (this.rest.length < BOM.length) return false;
      this.keepFrom(BOM.length);
    }
    this.begun = true;
    return true;
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

const BOM = Buffer.from('\uFEFF');
const DATA = Buffer.from('data:');
const ERROR_KEY = Buffer.from('"error"');
const CHOICES_KEY = Buffer.from('"choices"');
const DONE = Buffer.from('[DONE]');
const EMPTY = Buffer.alloc(0);

export interface UsageWish {
  readonly wantsUsage: boolean;
  readonly wantsContinuousUsage: boolean;
}

/**
 * Reads the usage that was forced on a worker's event and takes it out again where the client did not ask for it. The
 * other bytes stay as they are: the `usage` member is cut out, nothing is encoded again.
 */
export function readWorkerEvent(event: Buffer, wish: UsageWish): WorkerEvent {
  const data = startOfData(event);
  if (data === -1) return { bytes: event, usage: undefined, done: false, failed: false };
  if (standsAt(event, DONE, data)) return { bytes: event, usage: undefined, done: true, failed: false };
  const failed = isError(event, data);
  const member = usageMember(event, data);
  if (member === undefined) return { bytes: event, usage: undefined, done: false, failed };
  const usage = readUsage(member.value);
  const last = hasNoChoices(event);
  if (wish.wantsContinuousUsage || (last && wish.wantsUsage)) return { bytes: event, usage, done: false, failed };
  if (last) return { bytes: EMPTY, usage, done: false, failed };
  const bytes = Buffer.concat([event.subarray(0, member.from), event.subarray(member.to)]);
  return { bytes, usage, done: false, failed };
}

/** Where the data of an event begins: in its first line as engines write it, or behind comments and other fields. -1: none. */
function startOfData(event: Buffer): number {
  for (let line = 0; line < event.length;) {
    if (standsAt(event, DATA, line)) return skipSpace(event, line + DATA.length);
    const end = event.indexOf(LF, line);
    if (end === -1) return -1;
    line = end + 1;
  }
  return -1;
}

const standsAt = (event: Buffer, text: Buffer, at: number): boolean =>
  text.equals(event.subarray(at, at + text.length));

/** `{"error": …`, and not `null`. */
function isError(event: Buffer, data: number): boolean {
  const key = event[data] === OPEN ? skipSpace(event, data + 1) : -1;
  if (key === -1 || !standsAt(event, ERROR_KEY, key)) return false;
  const colon = skipSpace(event, key + ERROR_KEY.length);
  return event[colon] === COLON && event[skipSpace(event, colon + 1)] !== SMALL_N;
}

function hasNoChoices(event: Buffer): boolean {
  const key = event.indexOf(CHOICES_KEY);
  if (key === -1) return false;
  const colon = skipSpace(event, key + CHOICES_KEY.length);
  const begin = skipSpace(event, colon + 1);
  return event[colon] === COLON && event[begin] === 0x5b && event[skipSpace(event, begin + 1)] === 0x5d;
}

/** Where the top-level `usage` member of an event's data stands, with the comma that goes with it. */
function usageMember(event: Buffer, data: number): { from: number; to: number; value: unknown } | undefined {
  let member = lastUsageMember(event);
  // Engines write it last. What closes behind it is then the event itself, and no object within it.
  if (member && closedBehind(event, member.end) !== 1) member = ownMember(event, data, USAGE_KEY);
  const value = member && memberValue(event, member);
  if (!member || value === undefined) return undefined;
  const { after, end } = member;
  if (event[after] === COMMA) return { from: after, to: end, value };
  const next = skipSpace(event, end);
  return { from: after + 1, to: event[next] === COMMA ? next + 1 : end, value };
}

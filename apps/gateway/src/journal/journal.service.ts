import { closeSync, fdatasync, openSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { UsageRecord } from '@sluice/contracts/gateway';
import type { Counts } from '@sluice/contracts/lost-request';
import { Rejected } from '@sluice/contracts/errors';
import { rfc3339 } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { countLine, endLine, openLine, segmentLine } from './entry.js';
import { segmentName } from './segments.service.js';

/** What is kept free for the END of a request that was let in. */
const END_BYTES = 4 * 1024;
/** Of the disk: more than is written between two looks at how much is free. */
const KEPT_FREE_BYTES = 64 * 1024 * 1024;

/** Requests in flight up to which none waits for another's fsync to be shared, and milliseconds between two fsyncs beyond. */
const FEW = 8;
const SYNC_EVERY_MS = 2;
/** A clock that is steered goes back by less. */
const CLOCK_SET_BACK_MS = 1_000;

interface Segment {
  readonly number: number;
  size: number;
  /** Requests opened in this segment that have no END yet. */
  open: number;
  /** `seq` of the last END in it; -1 for none. */
  lastSeq: number;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const datasync = promisify(fdatasync);

/**
 * The usage journal of this gateway process: append-only, one folder per boot. An OPEN is in the file before the
 * request is sent on; an END is on the disk before the client gets the last byte. A line is written in the turn in which
 * it is said, to the system's cache: that costs 2 µs, where the way through the thread pool costs 20. Only fsyncs are
 * waited for, in groups.
 */
export class Journal {
  private readonly log = loggerFor('journal');
  private readonly segments: Segment[] = [];
  private readonly openedIn = new Map<string, Segment>();
  private file!: number;
  /** Closed segments that the next fsync has to cover, too. */
  private retired: number[] = [];
  private unsynced: Waiter[] = [];
  private syncing = false;
  private nextSeq = 0;
  /** Monotonic milliseconds of the begin of the last fsync. */
  private syncedAt = Number.NEGATIVE_INFINITY;
  /** ENDs below this are on the disk. */
  syncedBelow = 0;
  /** ENDs below this were in segments that are gone. */
  heldFrom = 0;
  /** Milliseconds since the epoch, and as text: no END is dated before it. */
  private floor = 0;
  private floorText = '';
  private setBack = false;
  /** Whether anything may be opened. */
  private heldBack = false;
  private failure: Error | undefined;
  private onEnd: () => void = () => {};
  /** Bytes of this boot's segments, and how many there may be. */
  private size = 0;
  private mostBytes: number;

  /**
   * @param segmentBytes after which a new file is begun
   * @param maxBytes of all segments that are not settled yet; beyond it nothing is admitted
   */
  constructor(
    private readonly folder: string,
    private readonly segmentBytes: number,
    private readonly maxBytes = Number.POSITIVE_INFINITY,
  ) {
    this.mostBytes = maxBytes;
  }

  async start(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    this.rotate();
  }

  /** Called after ENDs are on the disk: the publisher's wake-up. */
  whenEnded(listener: () => void): void {
    this.onEnd = listener;
  }

  /** @param free bytes of the disk */
  room(free: number): void {
    this.mostBytes = Math.min(this.maxBytes, this.size + free - KEPT_FREE_BYTES);
  }

  /** Nothing is opened from now on. @returns how to open it again */
  holdBack(): () => void {
    this.heldBack = true;
    return () => {
      this.heldBack = false;
    };
  }

  /**
   * What ended before `until` has a `seq` below `seq`. What ends from now on is dated no earlier, whatever the clock does.
   * @param now ms since the epoch
   */
  mark(now: number): { readonly seq: number; readonly until: number } {
    const setBack = this.floor - now > CLOCK_SET_BACK_MS;
    if (setBack && !this.setBack)
      this.log.warn({ behindMs: this.floor - now }, 'the clock was set back: usage is dated as of before that');
    this.setBack = setBack;
    if (now > this.floor) {
      this.floor = now;
      this.floorText = rfc3339(now);
    }
    return { seq: this.nextSeq, until: this.floor };
  }

  /** @throws Rejected `unavailable` when it is shut, the disk failed or there is no room for further ENDs: then nothing may be admitted */
  check(): void {
    if (this.heldBack || this.failure || this.size + (this.opened + 1) * END_BYTES > this.mostBytes)
      throw new Rejected('unavailable', 'Usage cannot be recorded now.', { retryAfter: 1 });
  }

  get opened(): number {
    return this.openedIn.size;
  }

  /** The OPEN is in the file when this returns. @param opened the request as JSON @throws Rejected as `check` does */
  open(requestId: string, opened: string): void {
    this.check();
    try {
      this.append(openLine(opened));
    } catch {
      this.check();
    }
    const segment = this.segments.at(-1)!;
    segment.open++;
    this.openedIn.set(requestId, segment);
  }

  /** A running count. A disk that fails is said by the END. */
  count(requestId: string, counts: Counts): void {
    if (this.failure) return;
    try {
      this.append(countLine(requestId, counts));
    } catch {
      // remembered
    }
  }

  /** Resolves when the END is on the disk, with its place among the ENDs of this boot. */
  async end(record: Omit<UsageRecord, 'seq'>): Promise<void> {
    if (this.failure) throw this.failure;
    const full: UsageRecord = { ...record, seq: this.nextSeq++ };
    if (full.endedAt < this.floorText) full.endedAt = this.floorText;
    this.append(endLine(full));
    this.segments.at(-1)!.lastSeq = full.seq;
    await this.synced();
    const segment = this.openedIn.get(record.requestId);
    if (segment) segment.open--;
    this.openedIn.delete(record.requestId);
  }

  /** Segments that nobody needs any more: closed, every END settled (`seq` < `below`), no request open in them. */
  takeForgettable(below: number): number[] {
    const gone: number[] = [];
    while (this.segments.length > 1 && this.segments[0]!.open === 0 && this.segments[0]!.lastSeq < below) {
      const { number, size, lastSeq } = this.segments.shift()!;
      this.size -= size;
      this.heldFrom = Math.max(this.heldFrom, lastSeq + 1);
      gone.push(number);
    }
    return gone;
  }

  /** Number of the segment that has this END, or would have it. */
  segmentOf(seq: number): number {
    return (this.segments.find(({ lastSeq }) => lastSeq >= seq) ?? this.segments.at(-1)!).number;
  }

  async close(): Promise<void> {
    while (this.syncing) await new Promise((resolve) => setImmediate(resolve));
    for (const file of [...this.retired.splice(0), this.file]) closeSync(file);
  }

  private append(text: string): void {
    try {
      if (this.segments.at(-1)!.size >= this.segmentBytes) this.rotate();
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length;) at += writeSync(this.file, bytes, at);
      this.segments.at(-1)!.size += bytes.length;
      this.size += bytes.length;
    } catch (error) {
      throw this.fail(error as Error);
    }
  }

  /** Resolves when everything written until now is on the disk. */
  private synced(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.unsynced.push({ resolve, reject });
      // At the end of the turn: whoever else ends in it is in the same group.
      if (this.syncing) return;
      this.syncing = true;
      setImmediate(() => void this.syncAll());
    });
  }

  private async syncAll(): Promise<void> {
    while (this.unsynced.length > 0) {
      // Where many are in flight, more of them share one: a sync takes as much of a processor as half of a request.
      const early = this.opened > FEW ? this.syncedAt + SYNC_EVERY_MS - performance.now() : 0;
      if (early > 0) await sleep(early);
      this.syncedAt = performance.now();
      const waiting = this.unsynced;
      const closed = this.retired;
      this.unsynced = [];
      this.retired = [];
      const below = this.nextSeq;
      try {
        for (const file of [...closed, this.file]) await datasync(file);
        this.syncedBelow = below;
        this.onEnd();
        for (const { resolve } of waiting) resolve();
      } catch (error) {
        const failure = this.fail(error as Error);
        for (const { reject } of [...waiting, ...this.unsynced.splice(0)]) reject(failure);
      }
      for (const file of closed) closeSync(file);
    }
    this.syncing = false;
  }

  private rotate(): void {
    const number = (this.segments.at(-1)?.number ?? -1) + 1;
    const next = openSync(join(this.folder, segmentName(number)), 'ax', 0o600);
    // Whoever waits for a sync of the old segment must not be told by a sync of the new one.
    if (number > 0) this.retired.push(this.file);
    this.file = next;
    this.segments.push({ number, size: 0, open: 0, lastSeq: -1 });
    // A successor must not give numbers a second time whose segments are gone.
    if (this.nextSeq > 0) this.append(segmentLine(this.nextSeq));
  }

  private fail(error: Error): Error {
    if (!this.failure)
      this.log.error(
        { err: error },
        'the journal cannot be written: this gateway admits nothing until it is restarted',
      );
    this.failure ??= error;
    return this.failure;
  }
}

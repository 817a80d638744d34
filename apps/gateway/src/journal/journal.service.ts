import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { Rejected } from '@sluice/contracts/errors';
import { loggerFor } from '@sluice/service-kit';
import { countLine, endLine, openLine, type Counts, type OpenedRequest } from './entry.js';
import { segmentName } from './segments.service.js';

/** Bytes waiting to be written; beyond it the disk is too slow and nothing more is admitted. */
const MAX_PENDING_BYTES = 32 * 1024 * 1024;

/**
 * What stands in a segment file, as far as forgetting it goes. A line may be counted to an earlier segment than the
 * file it lands in; segments are forgotten in order, so that only keeps a file longer.
 */
interface Segment {
  readonly number: number;
  size: number;
  /** Requests opened in this segment that have no END yet. */
  open: number;
  /** `seq` of the last END in it; -1 for none. */
  lastSeq: number;
}

/**
 * The usage journal of this gateway process: append-only, one folder per boot. An OPEN is in the file before the
 * request is sent on; an END is on the disk before the client gets the last byte. Writes go out in groups, and fsyncs
 * too, apart from the writes, so that an OPEN never waits for a disk.
 */
export class Journal {
  private readonly log = loggerFor('journal');
  private readonly segments: Segment[] = [];
  private readonly openedIn = new Map<string, Segment>();
  private file!: FileHandle;
  private pending: { text: string; written: () => void; failed: (error: Error) => void }[] = [];
  private pendingBytes = 0;
  private writing = false;
  private writtenGroup = 0;
  private syncing = false;
  private unsynced: { group: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  private nextSeq = 0;
  private failure: Error | undefined;
  private onEnd: () => void = () => {};

  constructor(
    private readonly folder: string,
    private readonly segmentBytes: number,
  ) {}

  async start(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await this.rotate();
  }

  /** Called after ENDs are on the disk: the publisher's wake-up. */
  whenEnded(listener: () => void): void {
    this.onEnd = listener;
  }

  /** @throws Rejected `unavailable` when the disk failed or can't keep up: then nothing may be admitted */
  check(): void {
    if (this.failure || this.pendingBytes > MAX_PENDING_BYTES)
      throw new Rejected('unavailable', 'Usage cannot be recorded now.', { retryAfter: 1 });
  }

  get opened(): number {
    return this.openedIn.size;
  }

  /** Resolves when the OPEN is in the file. */
  async open(request: OpenedRequest): Promise<void> {
    this.check();
    const segment = this.segments.at(-1)!;
    segment.open++;
    this.openedIn.set(request.requestId, segment);
    await this.append(openLine(request));
  }

  /** A running count; not waited for. */
  count(requestId: string, counts: Counts): void {
    void this.append(countLine(requestId, counts)).catch(() => {});
  }

  /** Resolves when the END is on the disk, with its place among the ENDs of this boot. */
  async end(record: Omit<UsageRecord, 'seq'>): Promise<void> {
    const full: UsageRecord = { ...record, seq: this.nextSeq++ };
    const written = this.append(endLine(full));
    this.segments.at(-1)!.lastSeq = full.seq;
    await written;
    await this.synced();
    const segment = this.openedIn.get(record.requestId);
    if (segment) segment.open--;
    this.openedIn.delete(record.requestId);
    this.onEnd();
  }

  /** Segments that nobody needs any more: closed, every END settled (`seq` < `below`), no request open in them. */
  takeForgettable(below: number): number[] {
    const gone: number[] = [];
    while (this.segments.length > 1 && this.segments[0]!.open === 0 && this.segments[0]!.lastSeq < below) {
      gone.push(this.segments.shift()!.number);
    }
    return gone;
  }

  async close(): Promise<void> {
    while (this.writing || this.syncing || this.pending.length > 0)
      await new Promise((resolve) => setTimeout(resolve, 5));
    await this.file.close();
  }

  private append(text: string): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    this.pendingBytes += text.length;
    return new Promise((written, failed) => {
      this.pending.push({ text, written, failed });
      if (!this.writing) {
        this.writing = true;
        setImmediate(() => void this.writeAll());
      }
    });
  }

  private async writeAll(): Promise<void> {
    while (this.pending.length > 0) {
      const group = this.pending;
      this.pending = [];
      const text = Buffer.from(group.map((line) => line.text).join(''));
      try {
        await writeFully(this.file, text);
        this.writtenGroup++;
        const segment = this.segments.at(-1)!;
        segment.size += text.length;
        for (const line of group) line.written();
        if (segment.size >= this.segmentBytes) await this.rotate();
      } catch (error) {
        this.fail(error as Error);
        for (const line of group) line.failed(error as Error);
      }
      this.pendingBytes -= text.length;
    }
    this.writing = false;
  }

  /** Resolves when everything written until now is on the disk. */
  private synced(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.unsynced.push({ group: this.writtenGroup, resolve, reject });
      if (!this.syncing) {
        this.syncing = true;
        setImmediate(() => void this.syncAll());
      }
    });
  }

  private async syncAll(): Promise<void> {
    while (this.unsynced.length > 0) {
      const upTo = this.writtenGroup;
      try {
        await this.file.datasync();
        const done = this.unsynced.filter(({ group }) => group <= upTo);
        this.unsynced = this.unsynced.filter(({ group }) => group > upTo);
        for (const waiter of done) waiter.resolve();
      } catch (error) {
        this.fail(error as Error);
        for (const waiter of this.unsynced.splice(0)) waiter.reject(error as Error);
      }
    }
    this.syncing = false;
  }

  private async rotate(): Promise<void> {
    const previous = this.file as FileHandle | undefined;
    const number = (this.segments.at(-1)?.number ?? -1) + 1;
    const next = await open(join(this.folder, segmentName(number)), 'ax', 0o600);
    // Whoever waits for a sync of the old segment must not be told by a sync of the new one.
    await previous?.datasync();
    this.file = next;
    this.segments.push({ number, size: 0, open: 0, lastSeq: -1 });
    await previous?.close();
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.log.error({ err: error }, 'the journal cannot be written: this gateway admits nothing until it is restarted');
  }
}

async function writeFully(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten;
}

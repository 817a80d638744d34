import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';

/** What one request made the worker do. Never a word of prompt or answer. */
export interface GenerationRecord {
  /** X-Request-Id as it came, or the one made up here. */
  readonly requestId: string;
  /** RFC 3339: when it was accepted. */
  readonly startedAt: string;
  /** RFC 3339: when it ended; nobody has the last byte before. */
  readonly time: string;
  readonly model: string;
  readonly endpoint: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Where there was a sound. */
  readonly audioSeconds?: number;
  readonly outcome: 'finished' | 'aborted' | 'error';
  readonly stream: boolean;
}

/**
 * The worker's own account, one JSON object per line. A line is with the operating system before `write` returns, so a
 * killed process loses none; nothing is synced to the disk, as this is a witness for tests, not money.
 */
export class GenerationLog {
  private readonly file: number;

  constructor(path: string) {
    this.file = openSync(path, 'a+', 0o600);
    // A line cut short by a crash must not swallow the next one.
    const { size } = fstatSync(this.file);
    const last = Buffer.alloc(1);
    if (size > 0 && readSync(this.file, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a) writeSync(this.file, '\n');
  }

  write(record: GenerationRecord): void {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    for (let at = 0; at < line.length;) at += writeSync(this.file, line, at);
  }

  close(): void {
    closeSync(this.file);
  }
}

import { openedRequestSchema, USAGE_RANK, type UsageRecord } from '@sluice/contracts/gateway';
import { recordOfLost } from '@sluice/contracts/lost-request';
import { lastUsage } from '@sluice/contracts/worker-usage';

const NOTHING = Buffer.alloc(0);
/** Of an answer that is all here, so much of its end is kept: counts stand at the end of answers. */
const KEPT_BYTES = 4 * 1024;

/** What this router saw of one request: what the gateway said of it, and the last that came of its answer. */
export class Sighting {
  /** From 1; 0: it reached no worker. */
  attempt = 0;
  private worker: string | null = null;
  private last: Buffer = NOTHING;
  private before: Buffer = NOTHING;

  constructor(
    /** The gateway's OPEN as JSON. */
    readonly opened: string,
    /** Counts of the worker in the answer are what it has taken so far, or all that it took. */
    private readonly counted: boolean,
  ) {}

  dispatched(worker: string, attempt: number): void {
    this.worker = worker;
    this.attempt = attempt;
  }

  /** Two pieces are kept, as the last may have been cut off in the middle of an event. */
  piece(bytes: Buffer): void {
    this.before = this.last;
    this.last = bytes;
  }

  /** It will be kept for a while: with a bounded part of its end. */
  shrink(): void {
    this.last = endOf(this.last);
    this.before = endOf(this.before);
  }

  /** @returns undefined where it is no request that a gateway opened */
  record(seq: number, endedAt: string): UsageRecord | undefined {
    const request = openedRequestSchema.safeParse(json(this.opened)).data;
    if (!request) return undefined;
    return recordOfLost(request, {
      counts: this.counted ? lastUsage(Buffer.concat([this.before, this.last])) : undefined,
      seq,
      endedAt,
      worker: this.worker,
      attempt: this.attempt,
      uncounted: USAGE_RANK.witnessed,
    });
  }
}

/** A copy where the piece holds more memory than is wanted of it. */
const endOf = (piece: Buffer): Buffer =>
  piece.buffer.byteLength <= KEPT_BYTES ? piece : Buffer.from(piece.subarray(-KEPT_BYTES));

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

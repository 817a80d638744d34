import type { Clock } from '@sluice/primitives/clock';
import { Batch, type Sequence, type TimeModel } from './batch.js';

/** Milliseconds of work before sockets and other requests get their turn. */
const TURN_MS = 5;

export interface EngineSequence extends Sequence {
  readonly model: string;
  /** It has a slot. */
  running: boolean;
  /** Tokens that its blocks hold now. */
  heldTokens(): number;
  /** One more token, at a monotonic time. */
  token(at: number): void;
  /** No more come. After its last token. */
  done(at: number): void;
}

/** Runs a Batch by the monotonic clock. */
export class Engine {
  private readonly batch: Batch<EngineSequence>;
  private readonly sequences = new Set<EngineSequence>();
  private readonly clock: Clock;
  private timer: NodeJS.Timeout | undefined;
  private scheduled = false;

  constructor(model: TimeModel, clock: Clock) {
    this.batch = new Batch(model);
    this.clock = clock;
  }

  get waiting(): number {
    return this.batch.waitingCount;
  }

  get running(): number {
    return this.batch.runningCount;
  }

  /** Every sequence that waits or runs. */
  all(): Iterable<EngineSequence> {
    return this.sequences;
  }

  submit(sequence: EngineSequence): void {
    this.sequences.add(sequence);
    this.batch.submit(sequence, this.clock.monotonic());
    this.schedule();
  }

  cancel(sequence: EngineSequence): void {
    if (!this.sequences.delete(sequence)) return;
    this.batch.cancel(sequence, this.clock.monotonic());
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    clearTimeout(this.timer);
    const next = this.batch.nextAt();
    if (next === undefined) return;
    this.timer = setTimeout(() => this.turn(), Math.max(0, next - this.clock.monotonic()));
  }

  private turn(): void {
    const begin = this.clock.monotonic();
    this.scheduled = true;
    for (let now = begin; now - begin < TURN_MS; now = this.clock.monotonic()) {
      const step = this.batch.due(now);
      if (step === undefined) {
        this.scheduled = false;
        return this.schedule();
      }
      // A sequence may have been cancelled by what another one did a moment ago.
      for (const sequence of step.got) if (this.sequences.has(sequence)) sequence.token(step.at);
      for (const sequence of step.done) if (this.sequences.delete(sequence)) sequence.done(step.at);
    }
    setImmediate(() => this.turn());
  }
}

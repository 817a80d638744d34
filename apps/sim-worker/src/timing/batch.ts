/** Times of an engine, in milliseconds. */
export interface TimeModel {
  readonly slots: number;
  readonly prefillTokensPerSecond: number;
  readonly prefillOverheadMs: number;
  /** A decoding step takes decodeMs + decodeMsPerSequence × sequences in it. */
  readonly decodeMs: number;
  readonly decodeMsPerSequence: number;
}

export interface Sequence {
  /** Tokens to generate; 0 for an embedding, which ends with its prefill. */
  readonly tokens: number;
  /** It got a slot at `at`. Answers the prompt tokens that are not cached. */
  admitted(at: number): number;
}

/** What happened at one instant: who got a token, and who is done. */
export interface Step<S> {
  readonly at: number;
  readonly got: readonly S[];
  readonly done: readonly S[];
}

/**
 * Continuous batching: a FIFO queue before the slots, one prefill at a time in order of arrival, then one token per
 * step for everybody who decodes; who joins during a step takes part from the next. Time is an input: ask `nextAt`,
 * wait, call `due` until it has nothing.
 */
export class Batch<S extends Sequence> {
  private readonly model: TimeModel;
  private waiting: S[] = [];
  private prefilling: { sequence: S; ms: number }[] = [];
  private prefillEndsAt = Infinity;
  private joining: S[] = [];
  private decoding = new Map<S, number>();
  private stepEndsAt = Infinity;

  constructor(model: TimeModel) {
    this.model = model;
  }

  get waitingCount(): number {
    return this.waiting.length;
  }

  get runningCount(): number {
    return this.prefilling.length + this.joining.length + this.decoding.size;
  }

  submit(sequence: S, now: number): void {
    this.waiting.push(sequence);
    this.admit(now);
  }

  /** Takes a sequence out wherever it is; its slot is free at once. False where it was not, or no longer, here. */
  cancel(sequence: S, now: number): boolean {
    const found =
      remove(this.waiting, (s) => s === sequence) ||
      this.cancelPrefill(sequence, now) ||
      remove(this.joining, (s) => s === sequence) ||
      this.decoding.delete(sequence);
    if (found) this.admit(now);
    return found;
  }

  /** When the next thing happens; undefined while nothing runs. */
  nextAt(): number | undefined {
    const next = Math.min(this.prefillEndsAt, this.stepEndsAt);
    return next === Infinity ? undefined : next;
  }

  /** The earliest thing that has happened by `now`. */
  due(now: number): Step<S> | undefined {
    const at = this.nextAt();
    if (at === undefined || at > now) return undefined;
    return this.prefillEndsAt <= this.stepEndsAt ? this.endPrefill(at) : this.endStep(at);
  }

  private admit(now: number): void {
    while (this.waiting.length > 0 && this.runningCount < this.model.slots) {
      const sequence = this.waiting.shift()!;
      const uncached = sequence.admitted(now);
      const ms = this.model.prefillOverheadMs + (uncached / this.model.prefillTokensPerSecond) * 1000;
      this.prefilling.push({ sequence, ms });
      if (this.prefilling.length === 1) this.prefillEndsAt = now + ms;
    }
  }

  private nextPrefill(now: number): void {
    const next = this.prefilling[0];
    this.prefillEndsAt = next === undefined ? Infinity : now + next.ms;
  }

  private cancelPrefill(sequence: S, now: number): boolean {
    const first = this.prefilling[0]?.sequence === sequence;
    const found = remove(this.prefilling, (entry) => entry.sequence === sequence);
    if (first) this.nextPrefill(now);
    return found;
  }

  /** The prefill itself yields the first token. */
  private endPrefill(at: number): Step<S> {
    const { sequence } = this.prefilling.shift()!;
    this.nextPrefill(at);
    const done = sequence.tokens <= 1;
    if (!done) this.joining.push(sequence);
    if (this.stepEndsAt === Infinity) this.beginStep(at);
    if (done) this.admit(at);
    return { at, got: sequence.tokens > 0 ? [sequence] : [], done: done ? [sequence] : [] };
  }

  private endStep(at: number): Step<S> {
    const got = [...this.decoding.keys()];
    const done: S[] = [];
    for (const [sequence, left] of this.decoding) {
      if (left > 1) this.decoding.set(sequence, left - 1);
      else {
        this.decoding.delete(sequence);
        done.push(sequence);
      }
    }
    this.beginStep(at);
    if (done.length > 0) this.admit(at);
    return { at, got, done };
  }

  private beginStep(at: number): void {
    for (const sequence of this.joining) this.decoding.set(sequence, sequence.tokens - 1);
    this.joining = [];
    const size = this.decoding.size;
    this.stepEndsAt = size === 0 ? Infinity : at + this.model.decodeMs + this.model.decodeMsPerSequence * size;
  }
}

function remove<T>(list: T[], match: (item: T) => boolean): boolean {
  const at = list.findIndex(match);
  if (at >= 0) list.splice(at, 1);
  return at >= 0;
}

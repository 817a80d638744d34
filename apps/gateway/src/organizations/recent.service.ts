import { systemClock } from '@sluice/primitives/clock';

interface Answer<T> {
  readonly value: T;
  /** Monotonic milliseconds when it was asked for. */
  readonly askedAt: number;
}

/**
 * Answers of another service, one per id, kept for a while: fresh ones are used as they are, older ones are used while
 * a new one is asked for, too old ones are waited for. Questions are single-flight, and the memory is bounded.
 */
export class Recent<T> {
  private readonly answers = new Map<string, Answer<T>>();
  private readonly flights = new Map<string, Promise<T>>();

  constructor(
    private readonly ask: (id: string) => Promise<T>,
    private readonly times: { readonly freshMs: number; readonly usableMs: number; readonly capacity: number },
  ) {}

  /** A usable answer at once, without any waiting, or undefined. */
  peek(id: string): T | undefined {
    const known = this.answers.get(id);
    if (!known) return undefined;
    const age = systemClock.monotonic() - known.askedAt;
    if (age >= this.times.usableMs) return undefined;
    if (age >= this.times.freshMs) void this.refresh(id).catch(() => {});
    return known.value;
  }

  /** @throws what the question throws when no usable answer is at hand */
  async get(id: string): Promise<T> {
    return this.peek(id) ?? this.refresh(id);
  }

  /** A new answer, for when the known one says no; at most one question per id and `freshMs`/10. */
  async again(id: string): Promise<T> {
    const known = this.answers.get(id);
    if (known && systemClock.monotonic() - known.askedAt < this.times.freshMs / 10) return known.value;
    return this.refresh(id);
  }

  private refresh(id: string): Promise<T> {
    const flying = this.flights.get(id);
    if (flying) return flying;
    const askedAt = systemClock.monotonic();
    const flight = this.ask(id)
      .then((value) => {
        this.answers.delete(id);
        if (this.answers.size >= this.times.capacity) this.answers.delete(this.answers.keys().next().value!);
        this.answers.set(id, { value, askedAt });
        return value;
      })
      .finally(() => this.flights.delete(id));
    this.flights.set(id, flight);
    return flight;
  }
}

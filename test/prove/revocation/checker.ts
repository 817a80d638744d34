import type { Gateway } from './cluster.ts';
import type { Listener } from './client.ts';

const MAX_TRACE = 40;
const MAX_KEPT = 50;

/**
 * accepted: a request that began after the revoke had returned was answered with 2xx.
 * answered: one that began before it was answered with 2xx, and its first byte came after.
 * streamed: bytes of an answer in flight came after.
 * dispatched: a request reached the router after, whatever became of its answer.
 * uncut: a stream was still open long after.
 */
export type ViolationKind = 'accepted' | 'answered' | 'streamed' | 'dispatched' | 'uncut';

export interface Violation {
  readonly kind: ViolationKind;
  /** The phase or scenario in which it was seen. */
  readonly where: string;
  readonly victim: string;
  readonly gateway: string;
  /** Milliseconds after the revoke had returned. */
  readonly afterMs: number;
  readonly trace: readonly string[];
}

/** A credential that has just been made. */
export interface Made {
  /** Of the key, the organization, or the member whose session it is. */
  readonly id: string;
  /** What it is used with: one secret, or the previous and the current one. */
  readonly secrets: readonly string[];
  /** A tag that no other key has. */
  readonly tag?: string;
}

/** A credential that is going to be revoked. */
export class Victim {
  /** Monotonic milliseconds at which its revoke had returned "in force"; undefined while it may be used. */
  deadAt: number | undefined;
  readonly trace: string[] = [];
  readonly kind: string;
  readonly number: number;
  readonly id: string;
  readonly secrets: readonly string[];
  /** A tag that no other key has. */
  readonly mark: string | undefined;

  constructor(kind: string, number: number, { id, secrets, tag }: Made) {
    this.kind = kind;
    this.number = number;
    this.id = id;
    this.secrets = secrets;
    this.mark = tag;
  }

  /** Stands in the prompts of its requests, so that they are known again between gateway and router. */
  get tag(): string {
    return `victim-${this.number}-`;
  }

  note(text: string): void {
    this.trace.push(`${performance.now().toFixed(1)} ${text}`);
    if (this.trace.length > MAX_TRACE) this.trace.shift();
  }
}

/** Knows of every victim when its revoke returned, and judges whatever is seen of it. */
export class Checker {
  readonly violations: Violation[] = [];
  readonly counts: Record<ViolationKind, number> = { accepted: 0, answered: 0, streamed: 0, dispatched: 0, uncut: 0 };
  readonly calls = { begun: 0, accepted: 0, refused: 0, unavailable: 0 };
  /** Streams that went on at a gateway that could hear of the revoke by no way at all: no feed, no push, no auth. */
  streamedUnasked = 0;
  /**
   * Could this gateway ask auth lately? Rule 7 lets a stream in flight go on while nobody can say; what it lets go on is
   * counted apart, and a request is never accepted so.
   */
  couldAsk: (gateway: Gateway) => boolean = () => true;
  /** The phase or scenario that runs. */
  where = '';
  /** Milliseconds from the return to the end of the streams that were in flight. */
  readonly cutAfterMs: number[] = [];
  private readonly victims = new Map<number, Victim>();

  get found(): number {
    return Object.values(this.counts).reduce((sum, count) => sum + count, 0);
  }

  add(kind: string, made: Made): Victim {
    const victim = new Victim(kind, this.victims.size + 1, made);
    this.victims.set(victim.number, victim);
    return victim;
  }

  /**
   * The revoke's 200 has just been read. What had been sent before it may still lie in this process's sockets: one whole
   * turn of the event loop reads everything that had arrived by then (all of it is on one machine, and a written byte is
   * in the reader's socket at once). Only what is read in a later turn was sent after the answer.
   */
  async dead(victim: Victim): Promise<void> {
    for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
    victim.deadAt = performance.now();
    victim.note('IN FORCE');
  }

  /** A request is about to be sent. */
  begin(victim: Victim, gateway: Gateway, what: string): Listener & { end(answered: boolean): void } {
    const beganAt = performance.now();
    const number = ++this.calls.begun;
    let status = 0;
    let late = false;
    let error = false;
    victim.note(`#${number} ${gateway.name} ${what} begins`);
    return {
      head: (code) => {
        status = code;
        victim.note(`#${number} ${gateway.name} answers ${code}`);
        this.calls[code < 300 ? 'accepted' : code >= 500 ? 'unavailable' : 'refused']++;
        if (victim.deadAt === undefined || code >= 300) return;
        late = true;
        this.report(beganAt > victim.deadAt ? 'accepted' : 'answered', victim, gateway.name);
      },
      data: (text) => {
        error ||= text.includes('data: {"error"');
        if (status >= 300 || victim.deadAt === undefined || late || !text.includes('"choices"')) return;
        late = true;
        if (this.couldAsk(gateway)) this.report('streamed', victim, gateway.name);
        else this.streamedUnasked++;
      },
      end: (answered) => {
        victim.note(`#${number} ${gateway.name} ends${error ? ' with an error event' : answered ? '' : ' broken off'}`);
        if (victim.deadAt !== undefined && status === 200 && beganAt < victim.deadAt && what === 'stream')
          this.cutAfterMs.push(performance.now() - victim.deadAt);
      },
    };
  }

  /** Bytes between a gateway and the router: does one of them work for a dead victim? */
  dispatched(bytes: Buffer, gateway: string): void {
    for (const [, number] of bytes.toString('latin1').matchAll(/victim-(\d+)-/g)) {
      const victim = this.victims.get(Number(number));
      victim?.note(`${gateway} dispatches`);
      if (victim?.deadAt !== undefined) this.report('dispatched', victim, gateway);
    }
  }

  report(kind: ViolationKind, victim: Victim, gateway: string): void {
    this.counts[kind]++;
    victim.note(`${gateway} VIOLATION ${kind}`);
    const afterMs = Math.round((performance.now() - (victim.deadAt ?? 0)) * 10) / 10;
    const { trace, kind: of, number } = victim;
    if (this.violations.length < MAX_KEPT)
      this.violations.push({ kind, where: this.where, victim: `${of} ${number}`, gateway, afterMs, trace: [...trace] });
  }
}

import type { Socket } from 'node:net';
import { NatsMessages } from './nats-messages.ts';

/** What waits in a held direction; beyond, the sender is made to wait, as TCP does. */
const MAX_WAITING = 4 * 1024 * 1024;

/** One direction of a link, shared by all of its connections: what is done to it is done to all. */
export class Lane {
  /** Nothing passes, and nobody is told: a cable that is cut somewhere in between. */
  held = false;
  delayMs = 0;
  /** Delay and hold are for what a NATS server delivers, not for its answers to publishes and pings. */
  deliveriesOnly = false;
  /** Lets everything pass up to and with this text, once, and holds what follows. */
  holdAfter: string | undefined;
  /** Lets pass what came before this text, late as it may be, and holds it and all that follows. */
  holdBefore: string | undefined;
  /** Sees what comes in, before anything is done to it. */
  tap: ((bytes: Buffer) => void) | undefined;
  readonly pipes = new Set<Pipe>();

  hold(): void {
    this.held = true;
  }

  /** What waited goes on its way, in order. */
  release(): void {
    this.held = false;
    this.delayMs = 0;
    this.holdAfter = undefined;
    this.holdBefore = undefined;
    for (const pipe of this.pipes) pipe.hurry();
  }
}

interface Waiting {
  /** undefined: the end. */
  readonly bytes: Buffer | undefined;
  /** Monotonic milliseconds; Infinity: when the lane is released. */
  due: number;
}

/** One direction of one connection: bytes in order, as the lane lets them. */
export class Pipe {
  private readonly waiting: Waiting[] = [];
  private size = 0;
  private timer: NodeJS.Timeout | undefined;
  private messages: NatsMessages | undefined;
  private began = false;
  private readonly from: Socket;
  private readonly to: Socket;
  private readonly lane: Lane;

  constructor(from: Socket, to: Socket, lane: Lane) {
    this.from = from;
    this.to = to;
    this.lane = lane;
    lane.pipes.add(this);
    from.on('data', (bytes: Buffer) => this.take(bytes));
    from.on('end', () => this.push(undefined));
    to.on('drain', () => this.pump());
  }

  close(): void {
    clearTimeout(this.timer);
    this.lane.pipes.delete(this);
  }

  /** What waits is due now. */
  hurry(): void {
    for (const one of this.waiting) one.due = 0;
    this.pump();
  }

  private take(bytes: Buffer): void {
    this.lane.tap?.(bytes);
    // From its first byte on, as what is delivered has to be known by its place.
    this.messages ??= this.lane.deliveriesOnly && !this.began ? new NatsMessages() : undefined;
    this.began = true;
    if (this.messages === undefined) return this.sort(bytes);
    for (const { bytes: one, delivery } of this.messages.push(bytes)) {
      if (delivery) this.sort(one);
      else this.to.write(one);
    }
  }

  private sort(bytes: Buffer): void {
    const before = this.lane.holdBefore === undefined ? -1 : bytes.indexOf(this.lane.holdBefore);
    if (before >= 0) {
      if (before > 0) this.push(bytes.subarray(0, before));
      return this.push(bytes.subarray(before), Infinity);
    }
    const at = this.lane.holdAfter === undefined ? -1 : bytes.indexOf(this.lane.holdAfter);
    if (at < 0) return this.push(bytes);
    const end = at + Buffer.byteLength(this.lane.holdAfter!);
    this.push(bytes.subarray(0, end));
    this.lane.holdAfter = undefined;
    this.lane.hold();
    if (end < bytes.length) this.push(bytes.subarray(end));
  }

  private push(bytes: Buffer | undefined, due = performance.now() + this.lane.delayMs): void {
    this.waiting.push({ bytes, due });
    this.size += bytes?.length ?? 0;
    this.pump();
    if (this.size > MAX_WAITING) this.from.pause();
  }

  pump(): void {
    clearTimeout(this.timer);
    while (this.waiting.length > 0 && !this.lane.held && !this.to.destroyed && !this.to.writableNeedDrain) {
      const { bytes, due } = this.waiting[0]!;
      const early = due - performance.now();
      if (early > 0) {
        if (early < Infinity) this.timer = setTimeout(() => this.pump(), early);
        break;
      }
      this.waiting.shift();
      this.size -= bytes?.length ?? 0;
      if (bytes) this.to.write(bytes);
      else this.to.end();
    }
    if (this.from.isPaused() && this.size <= MAX_WAITING) this.from.resume();
  }
}

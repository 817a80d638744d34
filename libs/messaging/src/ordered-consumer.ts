import { setTimeout as sleep } from 'node:timers/promises';
import { AckPolicy, DeliverPolicy, ReplayPolicy, type ConsumerConfig, type JetStreamManager } from '@nats-io/jetstream';
import { nanos, type Msg, type NatsConnection } from '@nats-io/transport-node';
import { STREAMS } from '@sluice/contracts/subjects';
import { backoff } from './backoff.js';
import { parseDeliveryInfo, type DeliveryInfo } from './delivery-info.js';
import type { Link } from './link.js';
import { isStreamNotFound, provisionStreams } from './provision.js';

const HEARTBEAT_MS = 500;
const TICK_MS = 250;
/** Five ticks without a word, not a time span: a stalled event loop must not look like a silent server. */
const QUIET_TICKS = 5;
/** The server forgets a consumer that nobody listens to. */
const INACTIVE_MS = 30_000;
/** What a successor repeats of what its predecessor saw: a server may come back without its last few messages. */
const OVERLAP_NS = 5_000_000_000n;

export interface FeedMessage {
  readonly subject: string;
  /** Sequence in the stream. */
  readonly seq: number;
  readonly data: Uint8Array;
  /** Was, or may have been, given to `onMessage` before. */
  readonly redelivered: boolean;
}

export type LossReason = 'disconnected' | 'gap' | 'silent' | 'deleted' | 'handler';

export interface FeedReset {
  /** 1 for the first consumer, then one more for each that takes its place. */
  readonly generation: number;
  readonly reason: 'started' | LossReason;
  /** The stream went back: made anew or restored. Everything it holds is delivered again. */
  readonly regression: boolean;
}

export interface OrderedConsumerOptions {
  /** One subject, wildcards allowed. */
  readonly filter: string;
  /** Where the first consumer starts: what comes from now on, or everything there is. @default 'new' */
  readonly start?: 'new' | 'all';
  /** In order, without gaps within a generation. Synchronous. */
  readonly onMessage: (message: FeedMessage) => void;
  /**
   * A consumer exists now, the first one included; called before its first message. Whatever rests on having seen every
   * message must start anew when `generation` > 1.
   */
  readonly onReset?: (reset: FeedReset) => void;
  /** The consumer is no longer to be trusted; `onReset` follows when the next one exists. */
  readonly onLost?: (reason: LossReason) => void;
}

/**
 * An ordered consumer that says when it is not one. The library's own re-creates its consumer without a word to who
 * uses the callback, with a heartbeat of 30 s, and waits for ever when the stream went back behind its position. This is
 * a plain ephemeral push consumer: contiguous consumer sequences, a heartbeat every 500 ms, a new one in every doubt.
 */
export class OrderedConsumer {
  readonly stream: string;
  readonly #link: Link;
  readonly #options: OrderedConsumerOptions;
  readonly #closed: () => void;
  readonly #stop = new AbortController();
  #generation = 0;
  #position: { seq: number; timestamp: bigint } | undefined;
  #streamCreated: string | undefined;
  #everything: boolean;

  constructor(link: Link, stream: string, options: OrderedConsumerOptions, closed: () => void) {
    this.#link = link;
    this.stream = stream;
    this.#options = options;
    this.#closed = closed;
    this.#everything = options.start === 'all';
    void this.#run();
  }

  /** 0 before the first consumer exists. */
  get generation(): number {
    return this.#generation;
  }

  close(): void {
    this.#stop.abort();
    this.#closed();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let reason: FeedReset['reason'] = 'started';
    let failures = 0;
    while (!signal.aborted) {
      using session = new DisposableStack();
      try {
        await this.#link.whenConnected(1_000);
        const lost = await this.#follow(session, reason);
        failures = 0;
        reason = lost;
        if (!signal.aborted) this.#guarded(() => this.#options.onLost?.(lost));
      } catch (error) {
        failures += 1;
        if (this.#link.connected && !signal.aborted) {
          this.#link.report(error);
          if (isStreamNotFound(error)) await this.#makeStream();
        }
      }
      // At once after a loss; with back-off while the stream or its leader is not there.
      const pause = failures === 0 ? 0 : backoff(failures, 50, 1_000, Math.random());
      await sleep(pause, undefined, { signal }).catch(() => {});
    }
  }

  /** A stream of the contracts that is gone is made again; any other is waited for. */
  async #makeStream(): Promise<void> {
    const definitions = STREAMS.filter(({ name }) => name === this.stream);
    try {
      await provisionStreams(this.#link, definitions, { createOnly: true, timeoutMs: 10_000 });
    } catch (error) {
      this.#link.report(error);
    }
  }

  /** One consumer, from its creation to its loss. */
  async #follow(session: DisposableStack, reason: FeedReset['reason']): Promise<LossReason> {
    const { nc } = this.#link.connection();
    const loss = Promise.withResolvers<LossReason>();
    let over = false;
    const lose = (why: LossReason): void => {
      over = true;
      loss.resolve(why);
    };
    session.defer(this.#link.onStatus(({ type }) => type === 'disconnected' && lose('disconnected')));
    const closing = (): void => lose('disconnected');
    this.#stop.signal.addEventListener('abort', closing, { once: true });
    session.defer(() => this.#stop.signal.removeEventListener('abort', closing));

    let seen = 0;
    let quiet = 0;
    let ready = false;
    const early: Msg[] = [];
    const take = (message: Msg): void => {
      if (over) return;
      const info = parseDeliveryInfo(message.reply ?? '');
      if (!info) return lose('deleted');
      if (info.consumerSequence !== seen + 1) return lose('gap');
      seen += 1;
      if (!this.#deliver(message, info)) lose('handler');
    };
    const receive = (message: Msg): void => {
      if (message.headers?.code !== PROTOCOL) take(message);
      else if (answerProtocol(nc, message) > seen + early.length) lose('gap');
    };
    const inbox = this.#link.newInbox();
    const subscription = nc.subscribe(inbox, {
      callback: (error, message) => {
        if (over) return;
        quiet = 0;
        if (error) return lose('deleted');
        // The server may deliver before it answers the creation.
        if (!ready && message.headers?.code !== PROTOCOL) early.push(message);
        // An exception here would take down the connection's reader.
        else if (!this.#guarded(() => receive(message))) lose('gap');
      },
    });
    session.defer(() => {
      if (!nc.isClosed()) subscription.unsubscribe();
    });

    const manager = await this.#link.manager();
    const { start, regression } = await this.#startingPoint(manager);
    await manager.consumers.add(this.stream, {
      ...start,
      deliver_subject: inbox,
      filter_subject: this.#options.filter,
      ack_policy: AckPolicy.None,
      replay_policy: ReplayPolicy.Instant,
      max_deliver: 1,
      flow_control: true,
      idle_heartbeat: nanos(HEARTBEAT_MS),
      inactive_threshold: nanos(INACTIVE_MS),
      mem_storage: true,
      num_replicas: 1,
    });
    if (over) return loss.promise;

    this.#generation += 1;
    this.#guarded(() => this.#options.onReset?.({ generation: this.#generation, reason, regression }));
    ready = true;
    early.splice(0).forEach(take);

    const timer = setInterval(() => {
      quiet += 1;
      if (quiet > QUIET_TICKS) lose('silent');
    }, TICK_MS);
    session.defer(() => clearInterval(timer));
    return loss.promise;
  }

  #deliver({ subject, data }: Msg, { streamSequence: seq, timestamp }: DeliveryInfo): boolean {
    // A sequence we know with a later time is a new message: the server had lost its last ones.
    const redelivered =
      this.#position !== undefined && seq <= this.#position.seq && timestamp <= this.#position.timestamp;
    if (!redelivered) this.#position = { seq, timestamp };
    return this.#guarded(() => this.#options.onMessage({ subject, seq, data, redelivered }));
  }

  async #startingPoint(manager: JetStreamManager): Promise<{ start: Partial<ConsumerConfig>; regression: boolean }> {
    const { created, state } = await manager.streams.info(this.stream);
    const known = this.#streamCreated;
    const position = this.#position;
    const regression =
      known !== undefined && (created !== known || (position !== undefined && state.last_seq < position.seq));
    this.#streamCreated = created;
    if (regression) {
      this.#position = undefined;
      this.#everything = true;
    }
    return { start: this.#startAt(state.last_seq), regression };
  }

  #startAt(lastSequence: number): Partial<ConsumerConfig> {
    const position = this.#position;
    if (position && position.timestamp > 0n) {
      const time = new Date(Number((position.timestamp - OVERLAP_NS) / 1_000_000n)).toISOString();
      return { deliver_policy: DeliverPolicy.StartTime, opt_start_time: time };
    }
    if (!position && this.#everything) return { deliver_policy: DeliverPolicy.All };
    // By number and not "new": what comes before the consumer exists is not missed if its creation has to be repeated.
    this.#position = position ?? { seq: lastSequence, timestamp: 0n };
    return { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: this.#position.seq + 1 };
  }

  #guarded(call: () => void): boolean {
    try {
      call();
      return true;
    } catch (error) {
      this.#link.report(error);
      return false;
    }
  }
}

/** Status of heartbeats and flow control. */
const PROTOCOL = 100;

/** @returns the last consumer sequence that the server says it sent; 0 when it says nothing about it */
function answerProtocol(nc: NatsConnection, message: Msg): number {
  if (message.reply) message.respond();
  const stalled = message.headers?.get('Nats-Consumer-Stalled');
  if (stalled) nc.publish(stalled);
  return Number(message.headers?.get('Nats-Last-Consumer') || 0);
}

import { setTimeout as sleep } from 'node:timers/promises';
import { jetstream, jetstreamManager, type JetStreamClient, type JetStreamManager } from '@nats-io/jetstream';
import {
  connect as connectNats,
  createInbox,
  headers as natsHeaders,
  type NatsConnection,
  type Subscription,
} from '@nats-io/transport-node';
import { STREAMS, type StreamDefinition } from '@sluice/contracts/subjects';
import { backoff } from './backoff.js';
import { NotConnected, TooManyInFlight, type Link, type MessagingStatus } from './link.js';
import { OrderedConsumer, type OrderedConsumerOptions } from './ordered-consumer.js';
import { provisionStreams, verifyStreams, type ProvisionOptions } from './provision.js';
import { parseServerAddress } from './server-address.js';

const API_TIMEOUT_MS = 5_000;
const DIAL_TIMEOUT_MS = 2_000;
const DRAIN_MS = 5_000;
/** Publishes waiting for their acknowledgement; more are refused, as memory is not a queue. */
const MAX_IN_FLIGHT = 8_192;

export interface MessagingOptions {
  /** `nats://user:password@host:port[,host:port…]`. The user's inboxes are `_INBOX.<user>.>`. */
  readonly url: string;
  /** Shown by the server's monitoring. */
  readonly name: string;
  readonly onStatus?: (status: MessagingStatus) => void;
  readonly pingIntervalMs?: number;
}

export interface PublishOptions {
  /** `Nats-Msg-Id`: the server drops a repetition within the stream's duplicate window. */
  readonly id: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly timeoutMs?: number;
}

export interface PublishAck {
  readonly stream: string;
  readonly sequence: number;
  readonly duplicate: boolean;
}

export interface CoreMessage {
  readonly subject: string;
  readonly data: Uint8Array;
}

export interface CoreSubscription {
  unsubscribe(): void;
}

/** Connects in the background, and again for ever: NATS may be down at boot and at any time after. */
export function connect(options: MessagingOptions): Messaging {
  return new Messaging(options);
}

interface CoreRegistration {
  readonly subject: string;
  readonly queue: string | undefined;
  readonly handler: (message: CoreMessage) => void;
  bound: Subscription | undefined;
}

export class Messaging implements Link {
  readonly inboxPrefix: string;
  readonly #options: MessagingOptions;
  readonly #listeners = new Set<(status: MessagingStatus) => void>();
  readonly #subscriptions = new Set<CoreRegistration>();
  readonly #ordered = new Set<OrderedConsumer>();
  readonly #stop = new AbortController();
  readonly #dialing: Promise<void>;
  #nc: NatsConnection | undefined;
  #js: JetStreamClient | undefined;
  #connected = false;
  #inFlight = 0;

  constructor(options: MessagingOptions) {
    this.#options = options;
    const { user } = parseServerAddress(options.url);
    this.inboxPrefix = user === undefined ? '_INBOX' : `_INBOX.${user}`;
    if (options.onStatus) this.#listeners.add(options.onStatus);
    this.#dialing = this.#dialForEver();
  }

  get connected(): boolean {
    return this.#connected;
  }

  get closed(): boolean {
    return this.#stop.signal.aborted;
  }

  /** @returns how to stop listening */
  onStatus(listener: (status: MessagingStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @throws NotConnected when it takes longer, or when this is closed */
  async whenConnected(timeoutMs: number): Promise<void> {
    if (this.closed) throw new NotConnected('closed');
    if (this.#connected) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new NotConnected()), timeoutMs);
    const closed = () => reject(new NotConnected('closed'));
    this.#stop.signal.addEventListener('abort', closed, { once: true });
    const off = this.onStatus(({ type }) => type === 'connected' && resolve());
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener('abort', closed);
      off();
    }
  }

  /** Fire and forget. @returns false when it was dropped: not connected */
  publishCore(subject: string, data: Uint8Array | string): boolean {
    if (!this.#connected || !this.#nc) return false;
    try {
      this.#nc.publish(subject, data);
      return true;
    } catch (error) {
      this.report(error);
      return false;
    }
  }

  /** Core subscription; holds over reconnects, and may be made before the first connection. */
  subscribeCore(
    subject: string,
    handler: (message: CoreMessage) => void,
    { queue }: { queue?: string } = {},
  ): CoreSubscription {
    const registration: CoreRegistration = { subject, queue, handler, bound: undefined };
    this.#subscriptions.add(registration);
    if (this.#nc) this.#bind(this.#nc, registration);
    return {
      unsubscribe: () => {
        this.#subscriptions.delete(registration);
        if (!this.#nc?.isClosed()) registration.bound?.unsubscribe();
      },
    };
  }

  /**
   * Publishes to a stream and waits for its acknowledgement. Ends within `timeoutMs`.
   * @throws NotConnected, TooManyInFlight: nothing was sent; anything else: it may have been
   */
  async publish(
    subject: string,
    payload: Uint8Array | string | object,
    { id, headers = {}, timeoutMs = 2_000 }: PublishOptions,
  ): Promise<PublishAck> {
    if (!this.#connected || !this.#js) throw new NotConnected();
    if (this.#inFlight >= MAX_IN_FLIGHT) throw new TooManyInFlight(`${MAX_IN_FLIGHT} publishes are in flight`);
    const mapped = natsHeaders();
    for (const [name, value] of Object.entries(headers)) {
      for (const one of typeof value === 'string' ? [value] : value) mapped.append(name, one);
    }
    const data = payload instanceof Uint8Array || typeof payload === 'string' ? payload : JSON.stringify(payload);
    this.#inFlight += 1;
    try {
      const ack = await this.#js.publish(subject, data, { msgID: id, headers: mapped, timeout: timeoutMs });
      return { stream: ack.stream, sequence: ack.seq, duplicate: ack.duplicate };
    } finally {
      this.#inFlight -= 1;
    }
  }

  /** Makes the streams what the contracts say, and reads them back. Retries while JetStream is not up yet. */
  async provision(streams: readonly StreamDefinition[] = STREAMS, options: ProvisionOptions = {}): Promise<void> {
    await provisionStreams(this, streams, options);
  }

  /** For boot: the streams are there and as the contracts say. @throws StreamMismatch, or when one is missing */
  async verifyStreams(streams: readonly StreamDefinition[] = STREAMS): Promise<void> {
    await verifyStreams(this, streams);
  }

  /**
   * Number of the last message that a stream keeps on a subject; undefined when it keeps none. Asks the stream's leader.
   * @throws NotConnected, and when the server does not answer or does not let
   */
  async lastSequence(stream: string, subject: string): Promise<number | undefined> {
    const message = await (await this.manager()).streams.getMessage(stream, { last_by_subj: subject });
    return message?.seq;
  }

  /**
   * Number of the last message of a stream, and up to which these durable consumers have done with all (endless where
   * nothing waits for any of them). @throws NotConnected, and when the server does not answer or does not let
   */
  async position(stream: string, durables: readonly string[]): Promise<{ last: number; through: number }> {
    const manager = await this.manager();
    const consumers = await Promise.all(durables.map((durable) => manager.consumers.info(stream, durable)));
    const { state } = await manager.streams.info(stream);
    const behind = consumers.filter(({ num_pending, num_ack_pending }) => num_pending + num_ack_pending > 0);
    return {
      last: state.last_seq,
      through: Math.min(Number.POSITIVE_INFINITY, ...behind.map(({ ack_floor }) => ack_floor.stream_seq)),
    };
  }

  /** Follows a stream in order, in this process only, and says when it may have missed something. */
  orderedConsumer(stream: string, options: OrderedConsumerOptions): OrderedConsumer {
    const consumer = new OrderedConsumer(this, stream, options, () => this.#ordered.delete(consumer));
    this.#ordered.add(consumer);
    return consumer;
  }

  /** Lets what is under way end, then closes. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.#stop.abort();
    for (const consumer of this.#ordered) consumer.close();
    const nc = this.#nc;
    if (nc && !nc.isClosed()) {
      // A drain without a connection would wait for one.
      if (this.#connected) await Promise.race([nc.drain().catch(() => {}), sleep(DRAIN_MS, undefined, { ref: false })]);
      await nc.close();
    }
    await this.#dialing;
  }

  /** @internal For the other files of this library. */
  connection(): { nc: NatsConnection; js: JetStreamClient } {
    if (!this.#connected || !this.#nc || !this.#js) throw new NotConnected();
    return { nc: this.#nc, js: this.#js };
  }

  /** @internal */
  async manager(): Promise<JetStreamManager> {
    return jetstreamManager(this.connection().nc, { checkAPI: false, timeout: API_TIMEOUT_MS });
  }

  /** @internal */
  newInbox(): string {
    return createInbox(this.inboxPrefix);
  }

  /** @internal */
  report(error: unknown): void {
    this.#emit({ type: 'error', error: error instanceof Error ? error : new Error(String(error)) });
  }

  async #dialForEver(): Promise<void> {
    const { servers, user, password } = parseServerAddress(this.#options.url);
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted;) {
      try {
        // The library's own waiting for a first connection can't be ended; from then on it reconnects by itself.
        const nc = await connectNats({
          servers: [...servers],
          ...(user === undefined ? {} : { user }),
          ...(password === undefined ? {} : { pass: password }),
          name: this.#options.name,
          inboxPrefix: this.inboxPrefix,
          timeout: DIAL_TIMEOUT_MS,
          pingInterval: this.#options.pingIntervalMs ?? 1_500,
          maxPingOut: 2,
          maxReconnectAttempts: -1,
          reconnectTimeWait: 200,
          reconnectJitter: 300,
          ignoreAuthErrorAbort: true,
          noAsyncTraces: true,
        });
        if (signal.aborted) {
          await nc.close();
          return;
        }
        failures = 0;
        this.#nc = nc;
        this.#js = jetstream(nc, { timeout: API_TIMEOUT_MS });
        for (const registration of this.#subscriptions) this.#bind(nc, registration);
        this.#connected = true;
        this.#emit({ type: 'connected' });
        await this.#follow(nc);
      } catch (error) {
        failures += 1;
        this.report(error);
        await sleep(backoff(failures, 100, 2_000, Math.random()), undefined, { signal }).catch(() => {});
      }
    }
  }

  /** Comes back when this connection has ended for good. */
  async #follow(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      if (status.type === 'disconnect') this.#disconnected();
      else if (status.type === 'reconnect' && !nc.isClosed()) {
        this.#connected = true;
        this.#emit({ type: 'connected' });
      } else if (status.type === 'error') this.report(status.error);
    }
    this.#disconnected();
  }

  #disconnected(): void {
    if (!this.#connected) return;
    this.#connected = false;
    this.#emit({ type: 'disconnected' });
  }

  #bind(nc: NatsConnection, registration: CoreRegistration): void {
    const { subject, queue, handler } = registration;
    registration.bound = nc.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error, message) => {
        // An exception here would take down the connection's reader.
        try {
          if (error) throw error;
          handler({ subject: message.subject, data: message.data });
        } catch (error) {
          this.report(error);
        }
      },
    });
  }

  #emit(status: MessagingStatus): void {
    for (const listener of this.#listeners) {
      try {
        listener(status);
      } catch {
        // A listener's fault must not stop the others, nor the reader of the connection.
      }
    }
  }
}

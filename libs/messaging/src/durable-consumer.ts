import { setTimeout as sleep } from 'node:timers/promises';
import {
  AckPolicy,
  DeliverPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  ReplayPolicy,
  type Consumer,
  type ConsumerConfig,
  type ConsumerMessages,
  type JetStreamManager,
  type JsMsg,
} from '@nats-io/jetstream';
import { nanos } from '@nats-io/transport-node';
import { REDRIVE, redriveSubject, STREAMS } from '@sluice/contracts/subjects';
import { backoff } from './backoff.js';
import { deadLetterOf, errorName, errorPlace, Poison, redriven } from './dead-letter.js';
import type { Delivery } from './jetstream.context.js';
import type { Messaging } from './messaging.js';
import { isStreamNotFound } from './provision.js';

/** The extras of an `@EventPattern`: which stream, and as whom it is read. */
export interface ConsumerBinding {
  readonly stream: string;
  /** Name of the durable consumer: `<service>-<what for>`. Processes with the same name share the messages. */
  readonly durable: string;
  /** Messages handled at the same time by this process; 1 keeps their order as long as none fails. @default 1 */
  readonly concurrency?: number;
  /**
   * Each message only after the one before it is done, whatever fails and however many processes there are. One that fails
   * for good goes to the dead letters, and then the next one comes. @default false
   */
  readonly inOrder?: boolean;
  /**
   * Milliseconds without a sign of life after which the server delivers again: how long a message waits
   * whose process was killed. A handler that takes longer is kept alive. @default 10_000
   */
  readonly ackWaitMs?: number;
  /**
   * Deliveries after which a message goes to the dead letters. `Infinity` where it must wait for as long as a database is
   * away; what can never be handled says so by throwing `Poison`. @default 10
   */
  readonly maxDeliveries?: number;
  /** Milliseconds before a failed message comes again, doubling from `min` to `max`. @default 250 … 60_000 */
  readonly backoffMs?: { readonly min: number; readonly max: number };
  /** Milliseconds after which a handler counts as failed. @default 120_000 */
  readonly handlerTimeoutMs?: number;
}

/** One that is told for several subjects names the durable of each: a consumer has one filter, on nats-server 2.9. */
export interface EventBinding extends Omit<ConsumerBinding, 'durable'> {
  readonly durable: string | ((subject: string) => string);
}

export type Outcome = 'done' | 'retry' | 'dead';

export interface HandledMessage {
  readonly delivery: Delivery;
  readonly outcome: Outcome;
  readonly milliseconds: number;
  /** Name and code of the error, for logs. */
  readonly error?: string;
  /** Where it was thrown: the first frames of its stack. */
  readonly where?: readonly string[];
}

/** The handler went on for longer than it may. */
export class HandlerTimeout extends Error {
  override readonly name = 'HandlerTimeout';
}

/** A binding with the subjects that it is for. */
interface BoundConsumer extends ConsumerBinding {
  readonly filter: string;
  /** Of dead letters that come again: the stream that they were in. */
  readonly again?: string;
}

type Settings = Required<ConsumerBinding> & BoundConsumer;

/**
 * The same consumer for the dead letters that operators send again: on a stream of its own, as a consumer has one filter, on
 * nats-server 2.9, and as what was for all is not to come twice to those who have handled it.
 */
export const forRedrive = ({ stream, ...binding }: ConsumerBinding): BoundConsumer => ({
  ...binding,
  stream: REDRIVE,
  again: stream,
  filter: redriveSubject(stream, binding.durable),
});

/** One durable pull consumer: kept in existence, pulled from, each message acknowledged only after its handler. */
export class DurableConsumer {
  readonly #messaging: Messaging;
  readonly #settings: Settings;
  readonly #handle: (data: unknown, delivery: Delivery) => Promise<void>;
  readonly #onHandled: (message: HandledMessage) => void;
  readonly #stop = new AbortController();
  readonly #busy = new Set<Promise<void>>();
  #freed: () => void = () => {};
  #messages: ConsumerMessages | undefined;
  #running: Promise<void> | undefined;

  constructor(
    messaging: Messaging,
    settings: BoundConsumer,
    handle: (data: unknown, delivery: Delivery) => Promise<void>,
    onHandled: (message: HandledMessage) => void,
  ) {
    this.#messaging = messaging;
    this.#settings = {
      concurrency: 1,
      inOrder: false,
      ackWaitMs: 10_000,
      maxDeliveries: 10,
      backoffMs: { min: 250, max: 60_000 },
      handlerTimeoutMs: 120_000,
      ...settings,
    };
    this.#handle = handle;
    this.#onHandled = onHandled;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Takes no more, waits for the handlers under way (at most `drainMs`), gives back what was only fetched. */
  async stop(drainMs: number): Promise<void> {
    this.#stop.abort();
    this.#messages?.stop();
    await Promise.race([Promise.all([this.#running, ...this.#busy]), sleep(drainMs, undefined, { ref: false })]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted;) {
      try {
        await this.#messaging.whenConnected(1_000);
        const consumer = await this.#ensure();
        failures = 0;
        await this.#consume(consumer);
      } catch (error) {
        failures += 1;
        if (this.#messaging.connected && !signal.aborted) this.#messaging.report(error);
      }
      const pause = failures === 0 ? 50 : backoff(failures, 100, 5_000, Math.random());
      await sleep(pause, undefined, { signal }).catch(() => {});
    }
  }

  /** The consumer, made where it is missing. A stream that is gone is made again as the contracts say. */
  async #ensure(): Promise<Consumer> {
    const manager = await this.#messaging.manager();
    const { js } = this.#messaging.connection();
    try {
      return js.consumers.getConsumerFromInfo(await this.#ensureConsumer(manager));
    } catch (error) {
      if (!isStreamNotFound(error)) throw error;
      const definition = STREAMS.filter(({ name }) => name === this.#settings.stream);
      if (definition.length === 0) throw error;
      await this.#messaging.provision(definition, { createOnly: true, timeoutMs: 10_000 });
      return js.consumers.getConsumerFromInfo(await this.#ensureConsumer(manager));
    }
  }

  async #ensureConsumer(manager: JetStreamManager) {
    const { stream, durable } = this.#settings;
    const wanted = this.#config();
    try {
      const { config, ...info } = await manager.consumers.info(stream, durable);
      const same = Object.entries(wanted).every(([key, value]) => config[key as keyof ConsumerConfig] === value);
      return same ? { config, ...info } : await manager.consumers.update(stream, durable, wanted);
    } catch (error) {
      if (!(error instanceof JetStreamApiError) || error.code !== JetStreamApiCodes.ConsumerNotFound) throw error;
      return manager.consumers.add(stream, { ...wanted, deliver_policy: DeliverPolicy.All });
    }
  }

  #config(): Partial<ConsumerConfig> {
    const { durable, filter, ackWaitMs, concurrency, inOrder } = this.#settings;
    return {
      durable_name: durable,
      filter_subject: filter,
      ack_policy: AckPolicy.Explicit,
      replay_policy: ReplayPolicy.Instant,
      ack_wait: nanos(ackWaitMs),
      // Dead letters are our own work: the server only stops delivering, and forgets why.
      max_deliver: -1,
      // For all processes of this name together; what waits for its next attempt counts too.
      max_ack_pending: inOrder ? 1 : Math.max(1_000, concurrency * 100),
    };
  }

  /** Comes back when the consumer may be gone, the connection is, or this is stopped. */
  async #consume(consumer: Consumer): Promise<void> {
    const { concurrency } = this.#settings;
    const messages = await consumer.consume({
      max_messages: concurrency * 2,
      expires: 30_000,
      idle_heartbeat: this.#settings.again === undefined ? 1_000 : 5_000,
      abort_on_missing_resource: true,
    });
    this.#messages = messages;
    // The library waits up to `expires` before it looks again whether the consumer is still there; we look at once.
    const off = this.#messaging.onStatus(({ type }) => type === 'disconnected' && messages.stop());
    void stopWhenSilent(messages);
    if (this.#stop.signal.aborted) messages.stop();
    try {
      for await (const message of messages) {
        // One wait for whoever ends next, however many are at work.
        while (this.#busy.size >= concurrency && !this.#stop.signal.aborted)
          await new Promise<void>((resolve) => (this.#freed = resolve));
        if (this.#stop.signal.aborted) {
          message.nak();
          continue;
        }
        const work = this.#process(message)
          .catch((error: unknown) => this.#messaging.report(error))
          .finally(() => {
            this.#busy.delete(work);
            this.#freed();
          });
        this.#busy.add(work);
      }
    } finally {
      off();
    }
  }

  async #process(message: JsMsg): Promise<void> {
    const started = performance.now();
    const delivery = this.#deliveryOf(message);
    let outcome: Outcome = 'done';
    let error: string | undefined;
    let where: readonly string[] = [];
    const alive = setInterval(() => message.working(), this.#settings.ackWaitMs / 3);
    try {
      const data = parse(message.data);
      if (data === undefined) {
        error = 'NotJson';
        outcome = await this.#bury(message, delivery, error);
      } else {
        await this.#within(this.#handle(data.value, delivery));
        message.ack();
      }
    } catch (caught) {
      error = errorName(caught);
      where = errorPlace(caught);
      outcome =
        caught instanceof Poison || delivery.deliveries >= this.#settings.maxDeliveries
          ? await this.#bury(message, delivery, error)
          : this.#giveBack(message, delivery);
    } finally {
      clearInterval(alive);
    }
    const handled = { delivery, outcome, milliseconds: performance.now() - started };
    this.#onHandled(error === undefined ? handled : { ...handled, error, where });
  }

  #giveBack(message: JsMsg, { deliveries }: Delivery): Outcome {
    const { min, max } = this.#settings.backoffMs;
    message.nak(Math.max(1, Math.round(backoff(deliveries, min, max, Math.random()))));
    return 'retry';
  }

  /** Acknowledged here only after the dead letter is stored there. */
  async #bury(message: JsMsg, delivery: Delivery, reason: string): Promise<Outcome> {
    const { subject, id, headers } = deadLetterOf(delivery, reason);
    try {
      await this.#messaging.publish(subject, message.data, { id, headers, timeoutMs: 5_000 });
    } catch (error) {
      this.#messaging.report(error);
      return this.#giveBack(message, delivery);
    }
    message.term();
    return 'dead';
  }

  #deliveryOf(message: JsMsg): Delivery {
    const { stream, durable, again } = this.#settings;
    const headers: Record<string, readonly string[]> = {};
    for (const name of message.headers?.keys() ?? []) headers[name] = message.headers?.values(name) ?? [];
    const delivery: Delivery = {
      subject: message.subject,
      stream,
      durable,
      sequence: message.seq,
      deliveries: message.info.deliveryCount,
      messageId: message.headers?.get('Nats-Msg-Id') || `${stream}:${message.seq}`,
      storedAt: message.time,
      headers,
    };
    return again === undefined ? delivery : redriven(delivery, again);
  }

  async #within(work: Promise<void>): Promise<void> {
    const { handlerTimeoutMs } = this.#settings;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new HandlerTimeout(`no end after ${handlerTimeoutMs} ms`)),
      handlerTimeoutMs,
    );
    try {
      await Promise.race([work, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}

async function stopWhenSilent(messages: ConsumerMessages): Promise<void> {
  for await (const { type } of messages.status()) if (type === 'heartbeats_missed') messages.stop();
}

function parse(data: Uint8Array): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data)) as unknown };
  } catch {
    return undefined;
  }
}

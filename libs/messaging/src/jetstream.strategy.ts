import { Catch, type INestApplication, type RpcExceptionFilter } from '@nestjs/common';
import {
  Server,
  type CustomTransportStrategy,
  type MessageHandler,
  type NestMicroservice,
} from '@nestjs/microservices';
import { lastValueFrom, throwError, type Observable } from 'rxjs';
import { deadLetterCounts } from './dead-letters.js';
import {
  DurableConsumer,
  forRedrive,
  type ConsumerBinding,
  type EventBinding,
  type HandledMessage,
} from './durable-consumer.js';
import { JetStreamContext, type Delivery } from './jetstream.context.js';
import type { Messaging } from './messaging.js';

const DRAIN_MS = 10_000;

export interface JetStreamStrategyOptions {
  readonly messaging: Messaging;
  /** After every message: for metrics. */
  readonly onHandled?: (message: HandledMessage) => void;
  /** Milliseconds a shutdown waits for handlers under way. @default 10_000 */
  readonly drainMs?: number;
}

interface Binding {
  readonly pattern: string;
  readonly handler: MessageHandler;
  readonly consumer: ConsumerBinding;
}

/**
 * `@EventPattern('evt.auth.key.issued.v1.>', { stream: 'EVT_AUTH', durable: 'metering-keys' })` on a durable consumer.
 * A message is acknowledged only after its handler's promise or observable ended without an error. Nest's own transports
 * take an envelope with an `id` for a request, and swallow what an event handler throws.
 */
export class JetStreamStrategy extends Server implements CustomTransportStrategy {
  override readonly propagatesEventHandlerErrors = true;
  readonly #options: JetStreamStrategyOptions;
  readonly #bindings: Binding[] = [];
  #consumers: DurableConsumer[] = [];

  constructor(options: JetStreamStrategyOptions) {
    super();
    this.#options = options;
  }

  override addHandler(
    pattern: unknown,
    handler: MessageHandler,
    isEventHandler = false,
    extras: Record<string, unknown> = {},
  ): void {
    const name = this.normalizePattern(pattern as string);
    const { stream, durable: named } = extras as Partial<EventBinding>;
    const durable = typeof named === 'function' ? named(name) : named;
    if (!isEventHandler) throw new Error(`${name}: only @EventPattern; questions go over HTTP`);
    if (!stream || !durable) throw new Error(`@EventPattern('${name}') needs { stream, durable }`);
    if (this.#bindings.some(({ consumer }) => consumer.durable === durable)) {
      throw new Error(`durable ${durable} has two handlers: a consumer has one filter, on nats-server 2.9`);
    }
    this.#bindings.push({ pattern: name, handler, consumer: { ...extras, stream, durable } });
    super.addHandler(`${name} ${durable}`, handler, isEventHandler, extras);
  }

  /** Needs no server to be there: consumers begin when it is. */
  listen(callback: () => void): void {
    this.#consumers = this.#bindings.flatMap(({ pattern, handler, consumer }) =>
      [{ ...consumer, filter: pattern }, forRedrive(consumer)].map(
        (settings) =>
          new DurableConsumer(
            this.#options.messaging,
            settings,
            (data, delivery) => this.#invoke(handler, data, delivery),
            (handled) => this.#handled(handled),
          ),
      ),
    );
    for (const consumer of this.#consumers) consumer.start();
    callback();
  }

  async close(): Promise<void> {
    const drainMs = this.#options.drainMs ?? DRAIN_MS;
    await Promise.all(this.#consumers.map((consumer) => consumer.stop(drainMs)));
    this.#consumers = [];
  }

  /**
   * How many dead letters wait for an operator, by durable consumer of this application.
   * @throws NotConnected, and when the server does not answer
   */
  async deadLetters(): Promise<Map<string, number>> {
    const waiting = await deadLetterCounts(this.#options.messaging);
    const count = ({ stream, durable }: ConsumerBinding) =>
      waiting.find((one) => one.stream === stream && one.durable === durable)?.waiting ?? 0;
    return new Map(this.#bindings.map(({ consumer }) => [consumer.durable, count(consumer)]));
  }

  on(): never {
    throw new Error('listen to Messaging.onStatus instead');
  }

  // The signature is Nest's.
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  unwrap<T>(): T {
    return this.#options.messaging as T;
  }

  async #invoke(handler: MessageHandler, data: unknown, delivery: Delivery): Promise<void> {
    const result: Promise<unknown> = handler(data, new JetStreamContext(delivery));
    const observable = this.transformToObservable(result);
    await lastValueFrom(observable, { defaultValue: undefined });
  }

  #handled(handled: HandledMessage): void {
    const { outcome, error, where, delivery } = handled;
    if (outcome !== 'done') {
      const { subject, stream, durable, sequence, deliveries } = delivery;
      const about = { subject, stream, durable, sequence, deliveries };
      this.logger.warn({ msg: 'message not handled', outcome, error, where, ...about });
    }
    this.#options.onHandled?.(handled);
  }
}

/** Without it Nest logs what a handler throws, payload and all, and hands on "Internal server error". */
@Catch()
class PassOn implements RpcExceptionFilter {
  catch(exception: unknown): Observable<never> {
    return throwError(() => exception);
  }
}

/** Binds the application's `@EventPattern` handlers to their consumers. Before `startAllMicroservices`. */
export function connectConsumers(app: INestApplication, options: JetStreamStrategyOptions): JetStreamStrategy {
  const strategy = new JetStreamStrategy(options);
  const microservice = app.connectMicroservice({ strategy }, { deferInitialization: true }) as NestMicroservice;
  microservice.useGlobalFilters(new PassOn());
  // What connectMicroservice does at once when nothing is deferred; but handlers keep the filters of that moment, and
  // ours would come too late. The hooks are the application's to call.
  microservice.registerListeners();
  microservice.setIsInitialized(true);
  microservice.setIsInitHookCalled(true);
  return strategy;
}

// `<string>` picks the overload whose handlers have a typed context.
/* oxlint-disable typescript/no-unnecessary-type-arguments */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { jetstreamManager, type JetStreamManager } from '@nats-io/jetstream';
import { connect as connectNats, type NatsConnection } from '@nats-io/transport-node';
import { Catch, Controller, type ExceptionFilter, type INestApplication, type LoggerService } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { DLQ } from '@sluice/contracts/subjects';
import { until, withBacking } from '@sluice/testing';
import { of, throwError, type Observable } from 'rxjs';
import {
  connect,
  connectConsumers,
  JetStreamContext,
  Poison,
  type HandledMessage,
  type JetStreamStrategy,
  type Messaging,
} from './index.js';
import { parseServerAddress } from './server-address.js';

// Of its own: the server is stopped and streams are removed in here.
const backing = withBacking(['nats'], { own: true });

/** A third of it goes by between two signs of life, so that a process may stand still for the rest. */
const SLOW_ACK_MS = 6_000;

type Handler = (data: unknown, context: JetStreamContext) => unknown;
let behaviour: Handler;

@Controller()
class Consumers {
  @EventPattern<string>('evt.auth.thing.>', {
    stream: 'EVT_AUTH',
    durable: 'test-things',
    ackWaitMs: 20_000,
    maxDeliveries: 3,
    backoffMs: { min: 20, max: 100 },
    handlerTimeoutMs: 4_000,
  })
  things(@Payload() data: unknown, @Ctx() context: JetStreamContext): unknown {
    return behaviour(data, context);
  }

  @EventPattern<string>('usage.v1.>', { stream: 'USAGE', durable: 'test-usage', concurrency: 3, ackWaitMs: 5_000 })
  usage(@Payload() data: unknown, @Ctx() context: JetStreamContext): unknown {
    return behaviour(data, context);
  }

  @EventPattern<string>('evt.auth.slow.>', { stream: 'EVT_AUTH', durable: 'test-slow', ackWaitMs: SLOW_ACK_MS })
  slow(@Payload() data: unknown, @Ctx() context: JetStreamContext): unknown {
    return behaviour(data, context);
  }

  @EventPattern<string>('evt.auth.patient.>', { stream: 'EVT_AUTH', durable: 'test-patient', ackWaitMs: 5_000 })
  patient(@Payload() data: unknown, @Ctx() context: JetStreamContext): unknown {
    return behaviour(data, context);
  }
}

/** As service-kit has one, for HTTP: it must not get in the way of messages. */
@Catch()
class AnswersHttp implements ExceptionFilter {
  catch(): void {}
}

class Rejected extends Error {
  override readonly name = 'Rejected';
}

let nats: NatsConnection;
let manager: JetStreamManager;
let publisher: Messaging;
let consumer: Messaging;
let app: INestApplication | undefined;
let strategy: JetStreamStrategy;
let handled: HandledMessage[] = [];
let logged: string[] = [];
let ids = 0;

const log = (...line: unknown[]): void => void logged.push(JSON.stringify(line));
const logger: LoggerService = { log, error: log, warn: log, debug: log, verbose: log, fatal: log };

async function start(): Promise<void> {
  const module = await Test.createTestingModule({
    controllers: [Consumers],
    providers: [{ provide: APP_FILTER, useClass: AnswersHttp }],
  }).compile();
  app = module.createNestApplication(new FastifyAdapter(), { logger });
  strategy = connectConsumers(app, { messaging: consumer, onHandled: (message) => handled.push(message) });
  await app.startAllMicroservices();
}
const stop = async (): Promise<void> => {
  await app?.close();
  app = undefined;
};
const publish = (subject: string, payload: object | string, headers: Record<string, string> = {}) =>
  publisher.publish(subject, payload, { id: `id-${(ids += 1)}`, headers, timeoutMs: 20_000 });
const publishEventually = (subject: string, payload: object): Promise<void> =>
  until(async () =>
    publish(subject, payload).then(
      () => true,
      () => false,
    ),
  );
/** The connection may be on its way back after a restart of the server. */
const remove = (stream: string): Promise<void> =>
  until(() =>
    manager.streams.delete(stream).then(
      () => true,
      (error: Error) => error.message === 'stream not found',
    ),
  );
const infoOf = (stream: string, durable: string) => manager.consumers.info(stream, durable);

beforeAll(async () => {
  const { url } = backing().nats;
  publisher = connect({ url, name: 'publisher' });
  const { servers, user, password } = parseServerAddress(url);
  nats = await connectNats({
    servers: [...servers],
    user: user!,
    pass: password!,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
  });
  manager = await jetstreamManager(nats, { timeout: 5_000 });
});
beforeEach(async () => {
  await publisher.provision();
  consumer = connect({ url: backing().nats.url, name: 'consumer' });
  handled = [];
  logged = [];
});
afterEach(async () => {
  await stop();
  await consumer.close();
  await backing().nats.start();
  for (const stream of ['EVT_AUTH', 'USAGE', DLQ]) await remove(stream);
});
afterAll(async () => {
  await Promise.all([publisher?.close(), nats?.close()]);
});

describe('the JetStream strategy', () => {
  it('gives an envelope with an id to its handler as it is, and what is known of the delivery', async () => {
    const seen: unknown[] = [];
    behaviour = (data, context) => void seen.push(data, context.delivery);
    await start();
    const event = { specversion: '1.0', id: 'e1', type: 't', data: { a: 1 } };
    const { sequence } = await publish('evt.auth.thing.made.v1.o.1', event, { 'X-Note': 'n' });
    await until(() => handled.length === 1);
    expect(seen[0]).toEqual(event);
    expect(seen[1]).toMatchObject({
      subject: 'evt.auth.thing.made.v1.o.1',
      stream: 'EVT_AUTH',
      durable: 'test-things',
      sequence,
      deliveries: 1,
      messageId: `id-${ids}`,
      headers: { 'X-Note': ['n'] },
    });
    expect(handled[0]).toMatchObject({ outcome: 'done' });
  });

  it('acknowledges only after the handler has ended', async () => {
    const end = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    behaviour = () => {
      begun.resolve();
      return end.promise;
    };
    await start();
    await publish('evt.auth.thing.a', {});
    await begun.promise;
    // An acknowledgement that was sent would have been taken by now.
    await consumer.connection().nc.flush();
    expect(await infoOf('EVT_AUTH', 'test-things')).toMatchObject({ num_ack_pending: 1 });
    end.resolve();
    await until(async () => (await infoOf('EVT_AUTH', 'test-things')).num_ack_pending === 0);
    expect((await infoOf('EVT_AUTH', 'test-things')).ack_floor.stream_seq).toBe(1);
  });

  const failures: [string, () => unknown][] = [
    [
      'throws',
      () => {
        throw new Rejected('no');
      },
    ],
    ['rejects', () => Promise.reject(new Rejected('no'))],
    ['returns an observable that fails', (): Observable<unknown> => throwError(() => new Rejected('no'))],
    ['promises an observable that fails', async () => throwError(() => new Rejected('no'))],
  ];
  it.each(failures)('delivers again to a handler that %s, and acknowledges what then succeeds', async (_, fail) => {
    const deliveries: number[] = [];
    behaviour = (_data, { delivery }) => {
      deliveries.push(delivery.deliveries);
      return delivery.deliveries < 3 ? fail() : of('done');
    };
    await start();
    await publish('evt.auth.thing.a', {});
    await until(() => handled.length === 3);
    expect(deliveries).toEqual([1, 2, 3]);
    expect(handled.map(({ outcome, error }) => [outcome, error])).toEqual([
      ['retry', 'Rejected'],
      ['retry', 'Rejected'],
      ['done', undefined],
    ]);
    await until(async () => (await infoOf('EVT_AUTH', 'test-things')).num_ack_pending === 0);
  });

  it('puts a message that failed N times to the dead letters, whole, and goes on with the next', async () => {
    const good: unknown[] = [];
    behaviour = (data) => {
      if ((data as { bad?: boolean }).bad) throw new Rejected('sk_live_supersecret');
      good.push(data);
    };
    await start();
    const body = { bad: true, note: 'sk_live_payload' };
    await publish('evt.auth.thing.bad', body, { 'Content-Type': 'application/cloudevents+json' });
    await publish('evt.auth.thing.good', { bad: false });
    await until(() => good.length === 1 && handled.some(({ outcome }) => outcome === 'dead'));
    const dead = await manager.streams.getMessage(DLQ, { last_by_subj: 'dlq.EVT_AUTH.test-things' });
    expect(dead?.json()).toEqual(body);
    expect(Object.fromEntries([...dead!.header].map(([name, [value]]) => [name, value]))).toMatchObject({
      'Content-Type': 'application/cloudevents+json',
      'Sluice-Dead-Reason': 'Rejected',
      'Sluice-Dead-Subject': 'evt.auth.thing.bad',
      'Sluice-Dead-Deliveries': '3',
    });
    await until(async () => (await infoOf('EVT_AUTH', 'test-things')).num_ack_pending === 0);
    expect(logged.join()).toContain('Rejected');
    expect(logged.join()).not.toContain('sk_live');
  });

  it('puts what is not JSON to the dead letters at once', async () => {
    behaviour = () => {
      throw new Error('never called');
    };
    await start();
    await publish('evt.auth.thing.a', '{"half":');
    await until(() => handled.length === 1);
    expect(handled[0]).toMatchObject({ outcome: 'dead', error: 'NotJson', delivery: { deliveries: 1 } });
    const dead = await manager.streams.getMessage(DLQ, { last_by_subj: 'dlq.EVT_AUTH.test-things' });
    expect(dead?.string()).toBe('{"half":');
  });

  it('puts what its handler calls poison to the dead letters at once', async () => {
    behaviour = () => {
      throw new Poison('invalid_thing');
    };
    await start();
    await publish('evt.auth.thing.a', {});
    await until(() => handled.length === 1);
    expect(handled[0]).toMatchObject({ outcome: 'dead', error: 'Poison/invalid_thing', delivery: { deliveries: 1 } });
  });

  it('keeps a message that can be neither handled nor put to the dead letters', async () => {
    behaviour = () => {
      throw new Rejected('no');
    };
    await manager.streams.delete(DLQ);
    await start();
    await publish('evt.auth.thing.a', {});
    await until(() => handled.length >= 4);
    expect(handled.map(({ outcome }) => outcome)).not.toContain('dead');
    await publisher.provision();
    await until(() => handled.at(-1)?.outcome === 'dead');
  });

  it('keeps a message that takes longer than the server waits', async () => {
    let calls = 0;
    behaviour = () => {
      calls += 1;
      return new Promise((resolve) => setTimeout(resolve, SLOW_ACK_MS + 1_500));
    };
    await start();
    await publish('evt.auth.slow.a', {});
    await until(() => handled.length === 1);
    expect(calls).toBe(1);
    expect(handled[0]).toMatchObject({ outcome: 'done' });
  });

  it('takes a handler that never ends for a failed one', async () => {
    behaviour = (_data, { delivery }) => (delivery.deliveries === 1 ? new Promise(() => {}) : undefined);
    await start();
    await publish('evt.auth.thing.hangs', {});
    await until(() => handled.length === 2);
    expect(handled.map(({ outcome, error }) => [outcome, error])).toEqual([
      ['retry', 'HandlerTimeout'],
      ['done', undefined],
    ]);
  });

  it('handles as many at the same time as it is told, and no more', async () => {
    let now = 0;
    let most = 0;
    const gate = Promise.withResolvers<void>();
    behaviour = async () => {
      now += 1;
      most = Math.max(most, now);
      if (now === 3) gate.resolve();
      await gate.promise;
      await new Promise((resolve) => setTimeout(resolve, 2));
      now -= 1;
    };
    await start();
    for (let index = 0; index < 30; index += 1) await publish('usage.v1.0', {});
    await until(() => handled.length >= 30);
    expect(most).toBe(3);
  });

  it('keeps the order of messages where it handles one at a time', async () => {
    const seen: number[] = [];
    behaviour = async (data) => {
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
      seen.push((data as { n: number }).n);
    };
    await start();
    for (let n = 0; n < 40; n += 1) await publish('evt.auth.thing.n', { n });
    await until(() => seen.length === 40);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it('starts while NATS is down, and consumes when it is up', async () => {
    await publish('evt.auth.thing.before', {});
    await backing().nats.stop();
    await until(() => !publisher.connected);
    await consumer.close();
    consumer = connect({ url: backing().nats.url, name: 'consumer' });
    behaviour = () => undefined;
    await start();
    expect(consumer.connected).toBe(false);
    await backing().nats.start();
    await until(() => handled.length === 1);
  });

  it('goes on after NATS was killed in the middle, and loses nothing', async () => {
    const seen = new Set<number>();
    behaviour = async (data) => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      seen.add((data as { n: number }).n);
    };
    await start();
    for (let n = 0; n < 50; n += 1) await publishEventually('usage.v1.1', { n });
    await until(() => seen.size > 10);
    await backing().nats.kill();
    await until(() => !consumer.connected);
    await backing().nats.start();
    for (let n = 50; n < 100; n += 1) await publishEventually('usage.v1.1', { n });
    await until(() => seen.size === 100);
    await until(async () => (await infoOf('USAGE', 'test-usage')).num_ack_pending === 0);
  });

  it('makes stream and consumer again when they are gone', async () => {
    behaviour = () => undefined;
    await start();
    await publish('evt.auth.thing.a', {});
    await until(() => handled.length === 1);
    await manager.streams.delete('EVT_AUTH');
    await publishEventually('evt.auth.thing.b', {});
    await until(() => handled.length === 2);
    await manager.consumers.delete('EVT_AUTH', 'test-things');
    await publish('evt.auth.thing.c', {});
    // The new consumer has no memory: it delivers everything, and the inbox knows what was done.
    await until(() => handled.length === 4);
    expect(handled.map(({ delivery }) => delivery.subject.at(-1))).toEqual(['a', 'b', 'b', 'c']);
  });

  it('waits for the handler under way at a shutdown, and leaves the rest to the next process', async () => {
    const end = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    let ended = false;
    behaviour = async () => {
      begun.resolve();
      await end.promise;
      ended = true;
    };
    await start();
    for (let n = 0; n < 5; n += 1) await publish('evt.auth.patient.n', { n });
    await begun.promise;
    await until(async () => (await infoOf('EVT_AUTH', 'test-patient')).num_ack_pending > 1);
    const stopping = strategy.close();
    expect(ended).toBe(false);
    end.resolve();
    await stopping;
    expect(handled).toHaveLength(1);
    await stop();

    behaviour = () => undefined;
    await start();
    // At once what was given back; what was on its way to a closed subscription when its time to be acknowledged is over.
    await until(() => handled.length === 5);
  });
});

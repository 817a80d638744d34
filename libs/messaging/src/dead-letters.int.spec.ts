// `<string>` picks the overload whose handlers have a typed context.
/* oxlint-disable typescript/no-unnecessary-type-arguments */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, type INestApplication } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { DLQ, REDRIVE } from '@sluice/contracts/subjects';
import { until, withBacking } from '@sluice/testing';
import {
  connect,
  connectConsumers,
  DeadLetters,
  JetStreamContext,
  Poison,
  type Delivery,
  type JetStreamStrategy,
  type Messaging,
  type StoredDeadLetter,
} from './index.js';

// Of its own: the numbers of all dead letters are looked at.
const backing = withBacking(['nats'], { own: true });

let broken: boolean;
let seen: { by: string; data: unknown; delivery: Delivery }[];

@Controller()
class Consumers {
  @EventPattern<string>('evt.auth.thing.>', { stream: 'EVT_AUTH', durable: 'test-mended', ackWaitMs: 20_000 })
  mended(@Payload() data: unknown, @Ctx() { delivery }: JetStreamContext): void {
    if (broken) throw new Poison('broken');
    seen.push({ by: 'mended', data, delivery });
  }

  @EventPattern<string>('evt.auth.thing.>', { stream: 'EVT_AUTH', durable: 'test-other', ackWaitMs: 20_000 })
  other(@Payload() data: unknown, @Ctx() { delivery }: JetStreamContext): void {
    seen.push({ by: 'other', data, delivery });
  }
}

let messaging: Messaging;
let letters: DeadLetters;
let strategy: JetStreamStrategy;
let app: INestApplication;
let ids = 0;

beforeAll(async () => {
  messaging = connect({ url: backing().nats.url, name: 'test' });
  letters = new DeadLetters(messaging);
});
beforeEach(async () => {
  broken = true;
  seen = [];
  await messaging.provision();
  const module = await Test.createTestingModule({ controllers: [Consumers] }).compile();
  app = module.createNestApplication(new FastifyAdapter(), { logger: false });
  strategy = connectConsumers(app, { messaging });
  await app.startAllMicroservices();
});
afterEach(async () => {
  await app.close();
  const { streams } = await messaging.manager();
  for (const stream of ['EVT_AUTH', DLQ, REDRIVE]) await streams.delete(stream);
});
afterAll(() => messaging?.close());

async function all(durable?: string): Promise<StoredDeadLetter[]> {
  const found: StoredDeadLetter[] = [];
  for await (const letter of letters.list(durable)) found.push(letter);
  return found;
}
/** A message that one consumer could not handle and the other has handled. */
async function dead(value: number): Promise<StoredDeadLetter> {
  const id = `dead-${(ids += 1)}`;
  const before = (await all()).length;
  await messaging.publish('evt.auth.thing.x', { value }, { id, headers: { 'X-Own': 'kept' }, timeoutMs: 20_000 });
  await until(async () => (await all()).length > before && seen.some(({ delivery }) => delivery.messageId === id));
  return (await all()).at(-1)!;
}
const handled = (by: string) => seen.filter((one) => one.by === by).map(({ data }) => data);

describe('dead letters', () => {
  it('are found with all that is known of them, and counted by consumer', async () => {
    const letter = await dead(1);
    expect(letter).toMatchObject({
      stream: 'EVT_AUTH',
      durable: 'test-mended',
      reason: 'Poison/broken',
      original: { subject: 'evt.auth.thing.x', sequence: 1, messageId: `dead-${ids}`, deliveries: 1 },
      headers: { 'X-Own': ['kept'] },
    });
    expect(Buffer.from(letter.data).toString()).toBe('{"value":1}');
    expect(await letters.find(letter.sequence)).toEqual(letter);
    expect(await letters.find(letter.sequence + 1)).toBeUndefined();
    await dead(2);
    expect(await letters.counts()).toEqual([{ stream: 'EVT_AUTH', durable: 'test-mended', waiting: 2 }]);
    expect(await strategy.deadLetters()).toEqual(
      new Map([
        ['test-mended', 2],
        ['test-other', 0],
      ]),
    );
    expect([(await all('test-mended')).length, (await all('test-other')).length]).toEqual([2, 0]);
  });

  it('that are sent again come to the consumer that could not handle them, as they were, and to no other', async () => {
    const letter = await dead(1);
    broken = false;
    await letters.redrive(letter);
    await until(() => handled('mended').length > 0);
    const again = seen.find(({ by }) => by === 'mended')!;
    expect(again.data).toEqual({ value: 1 });
    // The id that an inbox has of it, if it has.
    expect(again.delivery).toMatchObject({ ...letter.original, stream: 'EVT_AUTH', deliveries: 1 });
    expect(await all()).toEqual([]);
    // What comes behind it has been handled by both, so that a second one would have been seen.
    await messaging.publish('evt.auth.thing.x', { value: 2 }, { id: `dead-${(ids += 1)}`, timeoutMs: 20_000 });
    await until(() => handled('mended').length > 1 && handled('other').length > 1);
    expect(handled('other')).toEqual([{ value: 1 }, { value: 2 }]);
  });

  it('that are sent again by two, or again after a kill between the sending and the taking out, come once', async () => {
    const letter = await dead(1);
    broken = false;
    await Promise.all([letters.redrive(letter), letters.redrive(letter)]);
    await letters.redrive(letter);
    const next = await deadAgain(2);
    broken = false;
    await letters.redrive(next);
    await until(() => handled('mended').length > 1);
    expect(handled('mended')).toEqual([{ value: 1 }, { value: 2 }]);
  });

  it('that die again are dead letters again, and not taken for the first: nothing is lost', async () => {
    const letter = await dead(1);
    await letters.redrive(letter);
    await until(async () => (await all()).some(({ sequence }) => sequence > letter.sequence));
    const [again] = await all();
    expect(again).toMatchObject({ original: { ...letter.original }, reason: 'Poison/broken' });
    expect(again!.data).toEqual(letter.data);
    broken = false;
    await letters.redrive(again!);
    await until(() => handled('mended').length > 0);
    expect(await all()).toEqual([]);
  });

  it('of a consumer that is no more stay where they are: nobody would hear of them', async () => {
    const letter = await dead(1);
    await expect(letters.redrive({ ...letter, durable: 'test-retired' })).rejects.toThrow(
      'nobody listens as test-retired',
    );
    expect(await all()).toEqual([letter]);
  });

  it('that are given up are kept with the reason, and come to nobody', async () => {
    const letter = await dead(1);
    await letters.drop(letter, 'a test of 2025');
    expect(await all()).toEqual([]);
    const kept = await (
      await messaging.manager()
    ).streams.getMessage(REDRIVE, { last_by_subj: 'dropped.EVT_AUTH.test-mended' });
    expect(kept!.header.get('Sluice-Drop-Reason')).toBe('a test of 2025');
    expect(kept!.data).toEqual(letter.data);
    expect(handled('mended')).toEqual([]);
  });

  it('stay where they are when what was decided can’t be stored', async () => {
    const letter = await dead(1);
    const { streams } = await messaging.manager();
    await streams.update(REDRIVE, { max_bytes: 1 });
    await expect(letters.redrive(letter)).rejects.toThrow();
    expect(await all()).toEqual([letter]);
  });
});

async function deadAgain(value: number): Promise<StoredDeadLetter> {
  broken = true;
  return dead(value);
}

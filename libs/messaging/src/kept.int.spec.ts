import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { StreamDefinition } from '@sluice/contracts/subjects';
import { withBacking } from '@sluice/testing';
import { connect, NotConnected, type Messaging } from './index.js';

const backing = withBacking(['nats']);
// Names of its own: the suites share a server.
const own = randomUUID().slice(-12);
const KEPT: StreamDefinition = {
  name: `KEPT_${own}`,
  subjects: [`kept-${own}.>`],
  maxAge: 60_000,
  maxBytes: 1024 ** 2,
  discard: 'old',
  maxMessagesPerSubject: 1,
  duplicateWindow: 10_000,
};
const subject = (name: string) => `kept-${own}.${name}`;
let messaging: Messaging;

beforeAll(async () => {
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.provision([KEPT]);
});
afterAll(() => messaging?.close());

describe('what a stream keeps', () => {
  it('is told by the number of the last message on a subject, which changes with every message', async () => {
    expect(await messaging.lastSequence(KEPT.name, subject('a'))).toBeUndefined();
    const first = await messaging.publish(subject('a'), 'x', { id: randomUUID(), timeoutMs: 20_000 });
    expect(await messaging.lastSequence(KEPT.name, subject('a'))).toBe(first.sequence);
    const second = await messaging.publish(subject('a'), 'x', { id: randomUUID(), timeoutMs: 20_000 });
    expect(await messaging.lastSequence(KEPT.name, subject('a'))).toBe(second.sequence);
    expect(second.sequence).toBeGreaterThan(first.sequence);
  });

  it('is not taken for nothing when nobody can say', async () => {
    await expect(messaging.lastSequence(`${KEPT.name}_gone`, subject('a'))).rejects.toThrow('stream not found');
    const unconnected = connect({ url: 'nats://127.0.0.1:1', name: 'test' });
    await expect(unconnected.lastSequence(KEPT.name, subject('a'))).rejects.toBeInstanceOf(NotConnected);
    await unconnected.close();
  });
});

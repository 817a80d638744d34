import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { AckPolicy, jetstreamManager } from '@nats-io/jetstream';
import { KEYFEED, STREAMS, type StreamDefinition } from '@sluice/contracts/subjects';
import { withBacking } from '@sluice/testing';
import { connect, StreamMismatch, type Messaging } from './index.js';

// Of its own: it makes and changes the streams of the contracts.
const backing = withBacking(['nats'], { own: true });
let messaging: Messaging;

beforeAll(async () => {
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
});
afterAll(() => messaging?.close());

describe('provisioning', () => {
  it('refuses to call streams verified that are not there', async () => {
    await expect(messaging.verifyStreams()).rejects.toThrow('stream not found');
  });

  it('makes every stream of the contracts, and does it again without a change', async () => {
    await messaging.provision();
    await messaging.provision();
    await messaging.verifyStreams();
  });

  it('brings a stream that differs to what the contracts say', async () => {
    const name = 'PROVISION_UPDATE';
    const definition: StreamDefinition = {
      name,
      subjects: ['provision.>'],
      maxAge: 60_000,
      maxBytes: 1024 ** 2,
      discard: 'old',
      duplicateWindow: 10_000,
    };
    const changed: StreamDefinition = { ...definition, maxAge: 120_000, discard: 'new', subjects: ['provision.a.>'] };
    await messaging.provision([definition]);
    await expect(messaging.verifyStreams([changed])).rejects.toThrow(StreamMismatch);
    await messaging.provision([changed]);
    await messaging.verifyStreams([changed]);
    await expect(messaging.provision([definition], { createOnly: true })).rejects.toBeInstanceOf(StreamMismatch);
    await messaging.verifyStreams([changed]);
  });

  it('removes consumers that nobody reads any more, and no others', async () => {
    const name = 'PROVISION_RETIRED';
    const definition: StreamDefinition = {
      name,
      subjects: ['retired.>'],
      maxAge: 60_000,
      maxBytes: 1024 ** 2,
      discard: 'old',
      duplicateWindow: 10_000,
    };
    await messaging.provision([definition]);
    const { consumers } = await jetstreamManager(messaging.connection().nc);
    for (const durable of ['old', 'new'])
      await consumers.add(name, { durable_name: durable, ack_policy: AckPolicy.Explicit });
    for (let i = 0; i < 2; i++) await messaging.provision([{ ...definition, retiredConsumers: ['old', 'older'] }]);
    const left: string[] = [];
    for await (const consumer of consumers.list(name)) left.push(consumer.name);
    expect(left).toEqual(['new']);
  });

  it('says which setting the server did not take', async () => {
    const impossible: StreamDefinition = {
      ...STREAMS.find(({ name }) => name === KEYFEED)!,
      denyDelete: true,
    };
    await expect(messaging.verifyStreams([impossible])).rejects.toThrow('deny_delete is false instead of true');
  });

  it('does not retry what will never work', async () => {
    const clash: StreamDefinition = { ...STREAMS[0]!, name: 'CLASH' };
    await expect(messaging.provision([clash], { timeoutMs: 30_000 })).rejects.toThrow('overlap');
  });
});

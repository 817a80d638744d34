import { afterEach, describe, expect, it } from '@jest/globals';
import { until, withBacking } from '@sluice/testing';
import { connect, NotConnected, type Messaging, type MessagingStatus } from './index.js';

// Of its own: the server is stopped and killed in here.
const backing = withBacking(['nats'], { own: true });
const open: Messaging[] = [];
const stream = { name: 'MESSAGES', subjects: ['m.>'], maxAge: 60_000, maxBytes: 1024 ** 2, discard: 'old' as const };
const definition = { ...stream, duplicateWindow: 10_000 };
const connected = (onStatus?: (status: MessagingStatus) => void): Messaging => {
  const messaging = connect({ url: backing().nats.url, name: 'test', ...(onStatus ? { onStatus } : {}) });
  open.push(messaging);
  return messaging;
};

afterEach(async () => {
  await Promise.all(open.splice(0).map((messaging) => messaging.close()));
  await backing().nats.start();
});

describe('the connection', () => {
  it('is made later when NATS is down at boot, with the subscriptions of before', async () => {
    await backing().nats.stop();
    const statuses: string[] = [];
    const messaging = connected(({ type }) => statuses.push(type));
    const received: string[] = [];
    messaging.subscribeCore('early.*', ({ subject }) => received.push(subject));
    expect(messaging.connected).toBe(false);
    expect(messaging.publishCore('early.1', 'dropped')).toBe(false);
    await expect(messaging.publish('m.1', {}, { id: '1' })).rejects.toBeInstanceOf(NotConnected);
    await expect(messaging.whenConnected(10)).rejects.toBeInstanceOf(NotConnected);
    await until(() => statuses.includes('error'));

    await backing().nats.start();
    await messaging.whenConnected(30_000);
    await until(() => messaging.publishCore('early.2', 'x') && received.includes('early.2'));
    expect(received).not.toContain('early.1');
  });

  it('comes back after the server was killed, and says so', async () => {
    const statuses: string[] = [];
    const messaging = connected(({ type }) => statuses.push(type));
    const received: string[] = [];
    messaging.subscribeCore('back.*', ({ subject }) => received.push(subject));
    await messaging.whenConnected(30_000);
    await backing().nats.kill();
    await until(() => !messaging.connected);
    expect(messaging.publishCore('back.1', 'dropped')).toBe(false);
    await backing().nats.start();
    await messaging.whenConnected(30_000);
    await until(() => messaging.publishCore('back.2', 'x') && received.length > 0);
    expect(received).not.toContain('back.1');
    expect(statuses.filter((type) => type !== 'error')).toEqual(['connected', 'disconnected', 'connected']);
  });

  it('can be closed while there is no server', async () => {
    await backing().nats.stop();
    const messaging = connected();
    await messaging.close();
    await expect(messaging.whenConnected(1_000)).rejects.toThrow('closed');
  });

  it('survives a subscriber that throws', async () => {
    const errors: string[] = [];
    const messaging = connected((status) => status.type === 'error' && errors.push(status.error.message));
    const received: string[] = [];
    messaging.subscribeCore('bad.*', ({ subject }) => {
      received.push(subject);
      throw new Error('handler broke');
    });
    await messaging.whenConnected(30_000);
    messaging.publishCore('bad.1', 'x');
    messaging.publishCore('bad.2', 'x');
    await until(() => received.length === 2);
    expect(errors).toEqual(['handler broke', 'handler broke']);
    expect(messaging.connected).toBe(true);
  });

  it('does not say the password when the server refuses it', async () => {
    const url = backing().nats.url.replace(/:[^:@/]+@/, ':wrongpassword@');
    const errors: Error[] = [];
    const messaging = connect({
      url,
      name: 'test',
      onStatus: (status) => status.type === 'error' && errors.push(status.error),
    });
    open.push(messaging);
    await until(() => errors.length > 2);
    expect(errors.map(({ message, stack }) => `${message}${stack}`).join()).not.toContain('wrongpassword');
  });
});

describe('publish', () => {
  it('resolves with the acknowledgement, and names a repetition', async () => {
    const messaging = connected();
    await messaging.whenConnected(30_000);
    await messaging.provision([definition]);
    const first = await messaging.publish('m.x', { a: 1 }, { id: 'one', timeoutMs: 20_000 });
    expect(first).toMatchObject({ stream: 'MESSAGES', duplicate: false });
    const again = await messaging.publish('m.x', { a: 1 }, { id: 'one', timeoutMs: 20_000 });
    expect(again).toEqual({ ...first, duplicate: true });
  });

  it('rejects when no stream takes the subject', async () => {
    const messaging = connected();
    await messaging.whenConnected(30_000);
    await expect(messaging.publish('nobody.listens', {}, { id: 'x', timeoutMs: 20_000 })).rejects.toThrow(
      'jetstream is not enabled',
    );
  });

  it('ends in time when the server is gone in the middle of it', async () => {
    const messaging = connected();
    await messaging.whenConnected(30_000);
    await messaging.provision([definition]);
    const publishing = Promise.allSettled(
      Array.from({ length: 50 }, (_, index) => messaging.publish('m.y', {}, { id: `y${index}`, timeoutMs: 500 })),
    );
    await backing().nats.kill();
    const results = await publishing;
    expect(results).toHaveLength(50);
    await until(() => !messaging.connected);
    await expect(messaging.publish('m.y', {}, { id: 'after' })).rejects.toBeInstanceOf(NotConnected);
  });
});

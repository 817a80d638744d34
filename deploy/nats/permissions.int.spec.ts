import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect as connectNats, type NatsConnection } from '@nats-io/transport-node';
import { USAGE_PARTITIONS, usageSubject } from '@sluice/contracts/subjects';
import { connect, DeadLetters, type Messaging } from '@sluice/messaging';
import { withBacking } from '@sluice/testing';

const USERS = ['admin', 'operator', 'auth', 'gateway', 'metering', 'billing', 'router', 'worker', 'team'] as const;
type User = (typeof USERS)[number];
const passwordOf = (user: User): string => `0-password-of-${user}`;

const folder = mkdtempSync(join(tmpdir(), 'sluice-nats-'));
const natsConfig = join(folder, 'nats.conf');
const variables = USERS.map((user) => `NATS_${user.toUpperCase()}_PASSWORD: "${passwordOf(user)}"\n`).join('');
writeFileSync(natsConfig, variables + readFileSync(new URL('sluice.conf', import.meta.url), 'utf8'));
const backing = withBacking(['nats'], { natsConfig });

const as = new Map<User, Messaging>();
const raw = new Map<User, NatsConnection>();
const refusals = new Map<User, string[]>();

beforeAll(async () => {
  const { host, port } = backing().nats;
  for (const user of USERS) {
    const said: string[] = [];
    refusals.set(user, said);
    const messaging = connect({
      url: `nats://${user}:${passwordOf(user)}@${host}:${port}`,
      name: user,
      onStatus: (status) => status.type === 'error' && said.push(status.error.message),
    });
    as.set(user, messaging);
    await messaging.whenConnected(30_000);
    raw.set(
      user,
      await connectNats({ servers: `${host}:${port}`, user, pass: passwordOf(user), inboxPrefix: `_INBOX.${user}` }),
    );
  }
  await as.get('admin')!.provision();
  const manager = await jetstreamManager(raw.get('admin')!);
  await manager.consumers.add('EVT_AUTH', {
    durable_name: 'team-key-revoked',
    filter_subject: 'evt.auth.key.revoked.v1.>',
    ack_policy: AckPolicy.Explicit,
  });
}, 300_000);
afterAll(async () => {
  await Promise.all([...as.values(), ...raw.values()].map((connection) => connection.close()));
  rmSync(folder, { recursive: true, force: true });
});

let ids = 0;
const publish = (user: User, subject: string) =>
  as.get(user)!.publish(subject, {}, { id: `permission-${(ids += 1)}`, timeoutMs: 20_000 });
const manager = (user: User) => jetstreamManager(raw.get(user)!, { checkAPI: false, timeout: 20_000 });
const REFUSED = /permissions violation/i;

describe('the users of NATS', () => {
  const own: [User, string][] = [
    ['auth', 'evt.auth.key.revoked.v1.org.key'],
    ['auth', 'keyfeed.key.k1'],
    ['gateway', 'keyfeed.barrier.b1'],
    ['gateway', 'usage.v1.0'],
    ['gateway', 'horizon.v1.told.b1'],
    ['gateway', 'refused.v1.b1'],
    ['router', 'usage.v1.0'],
    ['metering', 'evt.metering.usage.counted.v1.org.x'],
    ['metering', 'dlq.USAGE.metering-usage-0'],
    ['billing', 'evt.billing.credit.granted.v1.org.x'],
    ['billing', 'dlq.EVT_AUTH.billing-organizations'],
    ['metering', 'keyuse.metering.k1'],
    ['billing', 'keyuse.billing.k1'],
    ['auth', 'dlq.KEYUSE.auth-keys-metered'],
  ];
  it.each(own)('lets %s publish %s', async (user, subject) => {
    await expect(publish(user, subject)).resolves.toMatchObject({ duplicate: false });
  });

  const subjects: [string, User[]][] = [
    ['evt.auth.key.revoked.v1.org.key', ['auth']],
    ['evt.billing.credit.granted.v1.org.x', ['billing']],
    ['evt.metering.usage.counted.v1.org.x', ['metering']],
    ['keyfeed.key.k1', ['auth']],
    ['keyfeed.barrier.b1', ['gateway']],
    ['usage.v1.0', ['gateway', 'router']],
    ['dlq.USAGE.metering-usage-3', ['metering']],
    ['horizon.v1.told.b1', ['gateway']],
    ['$JS.API.STREAM.CREATE.HORIZON', ['admin', 'metering']],
    ['$JS.API.CONSUMER.MSG.NEXT.HORIZON.metering-horizons', ['admin', 'metering']],
    ['redrive.USAGE.metering-usage-3', ['operator']],
    ['dropped.USAGE.metering-usage-3', ['operator']],
    ['refused.v1.b1', ['gateway']],
    ['$JS.API.STREAM.MSG.GET.DLQ', ['admin', 'operator']],
    ['$JS.API.STREAM.MSG.DELETE.DLQ', ['admin', 'operator']],
    ['$JS.API.STREAM.PURGE.DLQ', ['admin']],
    ['$JS.API.STREAM.MSG.DELETE.REDRIVE', ['admin']],
    ['$JS.API.STREAM.MSG.GET.USAGE', ['admin']],
    ['$JS.API.CONSUMER.MSG.NEXT.REDRIVE.metering-usage-3', ['admin', 'metering']],
    ['$JS.API.CONSUMER.CREATE.REDRIVE.metering-usage-3.redrive.USAGE.billing-usage', ['admin']],
    ['$JS.API.STREAM.DELETE.EVT_AUTH', ['admin']],
    ['$JS.API.STREAM.PURGE.USAGE', ['admin']],
    ['$JS.API.STREAM.UPDATE.KEYFEED', ['admin']],
    ['$JS.API.CONSUMER.DELETE.USAGE.billing-usage', ['admin']],
    ['$JS.API.CONSUMER.MSG.NEXT.USAGE.billing-usage', ['admin', 'billing']],
    ['$JS.API.CONSUMER.CREATE.USAGE.billing-usage.usage.v1.0', ['admin', 'billing']],
    ['$JS.API.CONSUMER.CREATE.EVT_AUTH', ['admin']],
    ['$JS.ACK.USAGE.billing-usage.1.1.1.1.1', ['admin', 'billing']],
    ['$JS.API.CONSUMER.CREATE.KEYFEED', ['admin', 'gateway']],
    ['$JS.API.STREAM.CREATE.OTHER', ['admin']],
    ['keyuse.metering.k1', ['metering']],
    ['keyuse.billing.k1', ['billing']],
    ['$JS.API.STREAM.CREATE.KEYUSE', ['admin', 'auth', 'billing', 'metering']],
    ['$JS.API.STREAM.PURGE.KEYUSE', ['admin']],
    ['$JS.API.STREAM.MSG.GET.KEYUSE', ['admin']],
    ['$JS.API.CONSUMER.CREATE.KEYUSE', ['admin']],
    ['$JS.API.CONSUMER.CREATE.KEYUSE.auth-keys-spent.keyuse.billing.*', ['admin', 'auth']],
    ['$JS.API.CONSUMER.CREATE.KEYUSE.auth-other.keyuse.billing.*', ['admin']],
    ['$JS.API.CONSUMER.MSG.NEXT.KEYUSE.auth-keys-metered', ['admin', 'auth']],
    ['$JS.ACK.KEYUSE.auth-keys-metered.1.1.1.1.1', ['admin', 'auth']],
    ['$JS.API.STREAM.MSG.GET.KEYFEED', ['admin', 'auth']],
    ['$JS.API.STREAM.PURGE.KEYFEED', ['admin', 'auth']],
    ['$JS.API.STREAM.MSG.DELETE.KEYFEED', ['admin']],
  ];
  const forbidden = subjects.flatMap(([subject, allowed]) =>
    USERS.filter((user) => !allowed.includes(user)).map((user): [User, string] => [user, subject]),
  );
  it.each(forbidden)('refuses %s to publish %s', async (user, subject) => {
    await expect(raw.get(user)!.request(subject, '', { timeout: 20_000 })).rejects.toThrow(REFUSED);
  });

  const foreign: [User, string][] = [
    ['gateway', '_INBOX.auth.>'],
    ['gateway', 'evt.>'],
    ['gateway', '>'],
    ['auth', 'usage.v1.*'],
    ['metering', 'usage.v1.*'],
    ['billing', '_INBOX.*.*'],
    ['router', 'evt.>'],
    ['worker', 'workers.v1.heartbeat.*'],
    ['team', 'evt.auth.>'],
    ['team', 'keyfeed.>'],
    ['team', '_INBOX.auth.>'],
    ['operator', 'dlq.>'],
    ['operator', 'usage.v1.*'],
  ];
  it.each(foreign)('refuses %s to listen to %s', async (user, subject) => {
    const refused = Promise.withResolvers<Error>();
    raw.get(user)!.subscribe(subject, {
      callback: (error) => {
        if (error) refused.resolve(error);
      },
    });
    await raw.get(user)!.flush();
    expect((await refused.promise).message).toMatch(REFUSED);
  });

  it('brings a heartbeat from a worker to the router, and lets nobody else send one', async () => {
    const heard = new Set<string>();
    as.get('router')!.subscribeCore('workers.v1.heartbeat.*', ({ subject }) => void heard.add(subject));
    const said = refusals.get('gateway')!;
    while (heard.size === 0 || said.length === 0) {
      as.get('gateway')!.publishCore('workers.v1.heartbeat.forged', '{}');
      as.get('worker')!.publishCore('workers.v1.heartbeat.w1', '{}');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect([...heard]).toEqual(['workers.v1.heartbeat.w1']);
    expect(said.join()).toMatch(REFUSED);
  });

  it('lets the gateway follow the key feed', async () => {
    const seen = Promise.withResolvers<string>();
    const consumer = as.get('gateway')!.orderedConsumer('KEYFEED', {
      filter: 'keyfeed.>',
      onReset: () => void publish('auth', 'keyfeed.key.followed'),
      onMessage: ({ subject }) => seen.resolve(subject),
    });
    expect(await seen.promise).toBe('keyfeed.key.followed');
    consumer.close();
  });

  const durables: [User, string, string, string][] = [
    ...Array.from({ length: USAGE_PARTITIONS }, (_, i): [User, string, string, string] => [
      'metering',
      'USAGE',
      `metering-usage-${i}`,
      usageSubject(i),
    ]),
    ['metering', 'HORIZON', 'metering-horizons', 'horizon.v1.*.*'],
    ['metering', 'REFUSED', 'metering-refusals', 'refused.v1.*'],
    ['metering', 'EVT_AUTH', 'metering-keys', 'evt.auth.key.issued.v1.>'],
    ['metering', 'EVT_AUTH', 'metering-key-updates', 'evt.auth.key.updated.v1.>'],
    ['metering', 'EVT_AUTH', 'metering-settings', 'evt.auth.organization.settings_changed.v1.>'],
    ['billing', 'USAGE', 'billing-usage', 'usage.v1.>'],
    ['billing', 'EVT_AUTH', 'billing-organizations', 'evt.auth.organization.created.v1.>'],
    ['billing', 'EVT_AUTH', 'billing-keys', 'evt.auth.key.issued.v1.>'],
    ['billing', 'EVT_AUTH', 'billing-key-updates', 'evt.auth.key.updated.v1.>'],
    ['auth', 'KEYUSE', 'auth-keys-metered', 'keyuse.metering.*'],
    ['auth', 'KEYUSE', 'auth-keys-spent', 'keyuse.billing.*'],
    ['auth', 'EVT_BILLING', 'auth-subscriptions', 'evt.billing.subscription.*.v1.>'],
    ['auth', 'EVT_BILLING', 'auth-disputes', 'evt.billing.payment.disputed.v1.>'],
  ];
  const text = readFileSync(new URL('sluice.conf', import.meta.url), 'utf8');
  const buried = Array.from(text.matchAll(/"dlq\.([A-Z_]+)\.(([a-z]+)-[a-z0-9-]+)"/g), ([, stream, durable, user]) => ({
    user: user as User,
    stream: stream!,
    durable: durable!,
  }));
  for (const { user, stream, durable } of buried)
    durables.push([user, 'REDRIVE', durable, `redrive.${stream}.${durable}`]);
  it.each(durables)('lets %s make and read its consumer on %s, %s', async (user, stream, durable, filter) => {
    const info = await (
      await manager(user)
    ).consumers.add(stream, { durable_name: durable, filter_subject: filter, ack_policy: AckPolicy.Explicit });
    const consumer = jetstream(raw.get(user)!).consumers.getConsumerFromInfo(info);
    const message = await consumer.next({ expires: 1_000 });
    message?.ack();
  });

  it('lets every consumer that may have dead letters hear of them again: both are rights of the same durables', () => {
    const own = durables.filter(([, stream]) => stream !== 'REDRIVE');
    expect(buried.map(({ durable }) => durable).toSorted()).toEqual(own.map(([, , durable]) => durable).toSorted());
  });

  it('lets an operator look at dead letters, send them to who could not handle them, and give them up', async () => {
    const letters = new DeadLetters(as.get('operator')!);
    const dead = async (): Promise<number> => (await publish('metering', 'dlq.USAGE.metering-usage-3')).sequence;
    const counted = async () => (await letters.counts()).find(({ durable }) => durable === 'metering-usage-3')?.waiting;
    const before = (await counted()) ?? 0;
    const [sent, dropped] = [await dead(), await dead()];
    expect(await counted()).toBe(before + 2);
    await letters.redrive((await letters.find(sent))!);
    await letters.drop((await letters.find(dropped))!, 'a test');
    expect([await letters.find(sent), await letters.find(dropped), await counted()]).toEqual([
      undefined,
      undefined,
      before || undefined,
    ]);
    const consumer = await jetstream(raw.get('metering')!).consumers.get('REDRIVE', 'metering-usage-3');
    const message = await consumer.next({ expires: 20_000 });
    expect(message?.subject).toBe('redrive.USAGE.metering-usage-3');
    message?.ack();
  });

  it('lets auth see what the key feed keeps of a gateway, and not remove it', async () => {
    const { sequence } = await publish('gateway', 'keyfeed.barrier.stays');
    expect(await as.get('auth')!.lastSequence('KEYFEED', 'keyfeed.barrier.stays')).toBe(sequence);
    await expect((await manager('auth')).streams.purge('KEYFEED')).rejects.toThrow();
    expect(await as.get('auth')!.lastSequence('KEYFEED', 'keyfeed.barrier.stays')).toBe(sequence);
  });

  it('lets services make a stream that is gone, and verify what they live on', async () => {
    const admin = await manager('admin');
    await admin.streams.delete('KEYFEED');
    const { STREAMS } = await import('@sluice/contracts/subjects');
    const streams = STREAMS.filter(({ name }) => name === 'KEYFEED');
    await as.get('gateway')!.provision(streams, { createOnly: true });
    await as.get('auth')!.verifyStreams(streams);
  });

  it('lets a team fetch and acknowledge from its own consumer, with the default inboxes of its client', async () => {
    const { host, port } = backing().nats;
    const plain = await connectNats({ servers: `${host}:${port}`, user: 'team', pass: passwordOf('team') });
    try {
      await publish('auth', 'evt.auth.key.revoked.v1.org.for-team');
      const consumer = await jetstream(plain).consumers.get('EVT_AUTH', 'team-key-revoked');
      const message = await consumer.next({ expires: 20_000 });
      expect(message?.subject).toMatch(/^evt\.auth\.key\.revoked\.v1\./);
      expect(await message?.ackAck()).toBe(true);
    } finally {
      await plain.close();
    }
  });

  it("does not show a team what is answered to others, though it listens to all that its client's inboxes could be", async () => {
    const overheard: string[] = [];
    const team = raw.get('team')!;
    team.subscribe('_INBOX.>', { callback: (_error, { subject }) => void overheard.push(subject) });
    await team.flush();
    await publish('auth', 'evt.auth.key.revoked.v1.org.private');
    await team.request('$JS.API.CONSUMER.INFO.EVT_AUTH.team-key-revoked', '', { timeout: 20_000 });
    await team.flush();
    expect(overheard.length).toBeGreaterThan(0);
    expect(overheard.filter((subject) => !subject.startsWith('_INBOX.team.'))).toEqual([]);
  });

  it('lets no wrong password in', async () => {
    const { host, port } = backing().nats;
    await expect(
      connectNats({ servers: `${host}:${port}`, user: 'auth', pass: passwordOf('gateway') }),
    ).rejects.toThrow(/authorization violation/i);
  });
});

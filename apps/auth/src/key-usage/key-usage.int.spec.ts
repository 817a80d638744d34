import { EntityManager } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { KeySpent } from '@sluice/contracts/billing';
import type { KeyMetered } from '@sluice/contracts/metering';
import { DLQ, keyMeteredSubject, keySpentSubject } from '@sluice/contracts/subjects';
import { migrate } from '@sluice/event-store';
import { connect, type FeedMessage, type Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { createApp, serviceKeys } from '@sluice/service-kit';
import { withBacking } from '@sluice/testing';
import { authConfig } from '../auth.config.js';
import { AuthModule, consume } from '../auth.module.js';
import { authDatabase } from '../database.js';
import { recordMetered, recordSpent, usageOf } from './key-usage.store.js';

// Of its own: PostgreSQL is stopped in here, and a service elsewhere under the same durable name would take half of the messages.
const backing = withBacking(['postgres', 'nats'], { own: true });
let app: NestFastifyApplication;
let messaging: Messaging;

beforeAll(async () => {
  const { url } = await backing.database('auth');
  await migrate(authDatabase(url));
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  const { privateKeys, publicKeys } = await serviceKeys('auth');
  const config = authConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.auth),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    DATABASE_URL: url,
    NATS_URL: backing().nats.url,
    BILLING_URL: 'http://127.0.0.1:9',
  });
  app = await createApp({ name: 'auth', config: () => config, module: (c) => AuthModule.with(c) }, config);
  consume(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
}, 300_000);
afterAll(async () => {
  // PostgreSQL was stopped in here: a connection may be gone without a word, and what is under way on it is given up after
  // 20 s. A service in earnest ends itself before.
  await app?.close();
  await messaging?.close();
}, 150_000);

const metered = (change: Partial<KeyMetered> = {}): KeyMetered => ({
  keyId: systemId(),
  organizationId: 'org-1',
  version: 1,
  requestCount: '2',
  inputTokens: '200',
  outputTokens: '60',
  lastUsedAt: '2026-11-20T10:00:59.999Z',
  ...change,
});
const spent = (change: Partial<KeySpent> = {}): KeySpent => ({
  keyId: systemId(),
  organizationId: 'org-1',
  version: 1,
  spent: '540',
  ...change,
});
const tell = (said: KeyMetered | KeySpent) =>
  messaging.publish('spent' in said ? keySpentSubject(said.keyId) : keyMeteredSubject(said.keyId), said, {
    id: systemId(),
    timeoutMs: 20_000,
  });
const em = () => app.get(EntityManager).fork();
const known = async (keyId: string) => (await usageOf(em(), [keyId])).get(keyId);
const until = async (what: string, check: () => Promise<boolean>) => {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((tick) => setTimeout(tick, 20))) {
    if (await check().catch(() => false)) return;
  }
  throw new Error(`not seen in 60 s: ${what}`);
};

describe('what auth knows of the use of keys, without asking', () => {
  it('is what metering and billing said, whoever came first, to the last digit', async () => {
    const said = metered({ requestCount: '9223372036854775807', inputTokens: '9007199254740993' });
    const { keyId } = said;
    await tell(spent({ keyId, spent: '99999999999999999999999999999999999999' }));
    await until('spent', async () => (await known(keyId)) !== undefined);
    expect((await known(keyId))!.lastUsedAt).toBeNull();
    await tell(said);
    await until('metered', async () => (await known(keyId))?.requestCount !== 0n);
    expect(await known(keyId)).toEqual({
      requestCount: 9_223_372_036_854_775_807n,
      inputTokens: 9_007_199_254_740_993n,
      outputTokens: 60n,
      lastUsedAt: new Date('2026-11-20T10:00:59.999Z'),
      spent: 99_999_999_999_999_999_999_999_999_999_999_999_999n,
    });
  });

  it('goes to the newest total and never back, in whatever order and how often they come', async () => {
    const keyId = systemId();
    const totals = [1, 2, 3, 4, 5].map((version) => metered({ keyId, version, requestCount: `${version}` }));
    const spends = [1, 2, 3, 4, 5].map((version) => spent({ keyId, version, spent: `${version}00` }));
    await Promise.all([...totals, ...totals.toReversed()].map((said) => recordMetered(em(), [said])));
    await Promise.all([...spends, ...spends.toReversed()].map((said) => recordSpent(em(), [said])));
    expect(await known(keyId)).toMatchObject({ requestCount: 5n, spent: 500n });
    await recordMetered(em(), [totals[2]!]);
    await recordSpent(em(), [spends[2]!]);
    expect(await known(keyId)).toMatchObject({ requestCount: 5n, spent: 500n });
  });

  it('is the newest of each key where many are recorded at once, by several at the same time', async () => {
    const keys = Array.from({ length: 50 }, () => systemId());
    const versions = [4, 1, 5, 3, 2];
    const totals = versions.flatMap((version) =>
      keys.map((keyId) => metered({ keyId, version, requestCount: `${version}` })),
    );
    const spends = versions.flatMap((version) => keys.map((keyId) => spent({ keyId, version, spent: `${version}00` })));
    const mixed = fc.shuffledSubarray(totals, { minLength: totals.length });
    const rounds = fc.sample(mixed, { numRuns: 8, seed: 20_261_121 });
    await Promise.all(rounds.map((said) => recordMetered(em(), said)));
    await Promise.all([spends, spends.toReversed()].map((said) => recordSpent(em(), said)));
    const all = await usageOf(em(), keys);
    expect(keys.map((keyId) => all.get(keyId))).toEqual(
      keys.map(() => expect.objectContaining({ requestCount: 5n, spent: 500n })),
    );
  });

  it('goes down too, when a newer total says so', async () => {
    const keyId = systemId();
    await recordMetered(em(), [metered({ keyId, version: 1, outputTokens: '99' })]);
    await recordMetered(em(), [metered({ keyId, version: 7, outputTokens: '30' })]);
    expect(await known(keyId)).toMatchObject({ outputTokens: 30n });
  });

  it('stays when an older total comes late through the stream', async () => {
    const keyId = systemId();
    await tell(metered({ keyId, version: 9, requestCount: '9' }));
    await until('the newer', async () => (await known(keyId))?.requestCount === 9n);
    await tell(metered({ keyId, version: 8, requestCount: '8' }));
    const after = metered();
    await tell(after);
    await until('the one after it', async () => (await known(after.keyId)) !== undefined);
    expect(await known(keyId)).toMatchObject({ requestCount: 9n });
  });

  it('is one query for many keys; who was never used is not in it', async () => {
    const used = [metered(), metered(), spent()];
    for (const said of used) await ('spent' in said ? recordSpent(em(), [said]) : recordMetered(em(), [said]));
    const ids = used.map(({ keyId }) => keyId);
    expect([...(await usageOf(em(), [...ids, 'never', 'nul'])).keys()].toSorted()).toEqual(ids.toSorted());
    expect(await usageOf(em(), [])).toEqual(new Map());
  });

  it('is not held up by what is not a total, or does not fit: it goes to the dead letters', async () => {
    const dead: FeedMessage[] = [];
    const letters = messaging.orderedConsumer(DLQ, {
      filter: 'dlq.KEYUSE.>',
      start: 'all',
      onMessage: (message) => void (message.redelivered || dead.push(message)),
    });
    await tell({ ...metered(), requestCount: '-1' });
    await tell({ ...spent(), spent: '1.5' });
    await tell(metered({ requestCount: '9999999999999999999' }));
    const next = metered();
    await tell(next);
    await until('the next', async () => (await known(next.keyId)) !== undefined);
    await until('dead letters', async () => dead.length === 3);
    letters.close();
    expect(dead.map(({ subject }) => subject).toSorted()).toEqual([
      'dlq.KEYUSE.auth-keys-metered',
      'dlq.KEYUSE.auth-keys-metered',
      'dlq.KEYUSE.auth-keys-spent',
    ]);
  });

  it('catches up with the newest of each key after the database was away', async () => {
    const keyId = systemId();
    await backing().postgres.stop();
    try {
      for (const version of [1, 2, 3]) await tell(metered({ keyId, version, requestCount: `${version}` }));
      await tell(spent({ keyId }));
    } finally {
      await backing().postgres.start();
    }
    await until('caught up', async () => (await known(keyId))?.requestCount === 3n);
    await until('spent too', async () => (await known(keyId))?.spent === 540n);
  });
});

import { isDeepStrictEqual } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { keySpentSchema, type KeySpent } from '@sluice/contracts/billing';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { KEYS_SPENT, KEYUSE } from '@sluice/contracts/subjects';
import { aUsageBatch as batch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { connect, type Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { withBacking } from '@sluice/testing';
import { billingDatabaseOf, type BillingDatabase } from '../billing-database.fixture.js';
import { until } from '../billing-suite.fixture.js';
import { ChargesStore } from '../charges/charges.store.js';
import { CreditsService } from '../credits/credits.service.js';
import { billingDatabase } from '../database.js';
import { PricesStore } from '../prices/prices.store.js';
import { keySpendRelay } from './key-spend.relay.js';

const backing = withBacking(['postgres', 'nats'], { own: true });
let database: BillingDatabase;
let store: ChargesStore;
let version: string;
let messaging: Messaging;
let heard: KeySpent[];
const relays: { stop(): Promise<void> }[] = [];

beforeAll(async () => {
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  messaging.orderedConsumer(KEYUSE, {
    filter: KEYS_SPENT,
    start: 'all',
    onMessage: ({ data, redelivered }) => {
      if (!redelivered) heard.push(keySpentSchema.parse(JSON.parse(new TextDecoder().decode(data))));
    },
  });
});
afterAll(() => messaging?.close());
beforeEach(async () => {
  heard = [];
  database = await billingDatabaseOf(await backing.database('billing_keys'));
  const prices = new PricesStore(database.em, systemClock);
  const set = { model: 'sim/small', prices: { input: 2n, cachedInput: 1n, output: 3n }, source: 'operator' } as const;
  version = (await prices.set(set, 'test')).price.version;
  store = new ChargesStore(database.em, prices, systemClock);
  await database.rows(`insert into organizations select 'org-' || i, 'Org', now() from generate_series(0, 2) i`);
  await new CreditsService(database.em, systemClock).move(
    { kind: 'credit', organizationId: 'org-1', amount: 20_000n, reason: 'test' },
    'c',
    'test',
  );
});
afterEach(async () => {
  await Promise.all(relays.splice(0).map((relay) => relay.stop()));
  await database.close();
});

/** A replica that publishes. */
const replica = (): void => {
  const relay = keySpendRelay(database.em, messaging, 20);
  relays.push(relay);
  relay.start();
};
/** Costs 270 pico-USD. */
const record = (change: Partial<UsageRecord> = {}): UsageRecord => aUsageRecord({ priceVersion: version, ...change });
const ofKeys = (count: number, change: Partial<UsageRecord> = {}): UsageRecord[] =>
  inJournal(Array.from({ length: count }, (_, i) => record({ requestId: `r-${i}`, keyId: `key-${i % 5}`, ...change })));
/** What somebody knows who keeps the highest version of each key. */
const known = () =>
  Object.fromEntries(heard.toSorted((a, b) => a.version - b.version).map(({ keyId, spent }) => [keyId, spent]));
const truth = async () => {
  const charged = await database.rows<{ key_id: string; spent: string }>(
    'select key_id, sum(charged_pico)::text as spent from charges group by key_id having sum(charged_pico) <> 0',
  );
  return Object.fromEntries(charged.map(({ key_id, spent }) => [key_id, spent]));
};

describe('what keys have spent, from the charges to KEYUSE', () => {
  it('is what was charged, whatever came twice or better later, and not what was absorbed', async () => {
    for (let i = 0; i < 3; i++) replica();
    const estimates = ofKeys(60, { rank: 2, estimated: true, outputTokens: '99' });
    // The credit covers 74 of these requests, or 42 estimates of them, and who comes when it is used up is absorbed for good;
    // so what is charged depends on who comes first. Nobody pays for those of org-2.
    const batches = [estimates, ofKeys(60), ofKeys(100).toReversed(), ofKeys(5, { organizationId: 'org-2' })];
    batches.push(inJournal([record({ requestId: 'unpaid', keyId: 'key-unpaid', organizationId: 'org-2' })]));
    await Promise.all(batches.slice(0, 3).map((records, i) => store.take(batch(records, `boot-${i}`))));
    for (const records of batches) await store.take(batch(records, 'boot-again'));
    const expected = await truth();
    const sum = Object.values(expected).reduce((all, spent) => all + Number(spent), 0);
    expect(sum).toBeGreaterThanOrEqual(42 * 270);
    expect(sum).toBeLessThanOrEqual(20_000);
    await until('the newest of each key', () => isDeepStrictEqual(known(), expected)).catch(() => {});
    expect(known()).toEqual(expected);
  });

  it('is published by another process when the one that charged died before it could', async () => {
    await store.take(batch([record()]));
    expect(heard).toEqual([]);
    replica();
    await until('heard', () => heard.length > 0);
    expect(heard[0]).toEqual({ keyId: 'key-1', organizationId: 'org-1', version: expect.any(Number), spent: '270' });
  });

  it('says nothing again for a batch that charges nothing', async () => {
    replica();
    const waiting = () => database.rows('select from key_spend where due_at is not null');
    await store.take(batch([record()]));
    await until('published', async () => (await waiting()).length === 0);
    await store.take(batch([record()]));
    expect(await waiting()).toEqual([]);
  });

  it('is made from the charges that were there before, to the same as if they had been added up', async () => {
    await store.take(batch(ofKeys(90)));
    const spend = 'select key_id, organization_id, charged_pico from key_spend order by key_id';
    const before = await database.rows(spend);
    await database.rows('drop table key_spend');
    await database.rows(`delete from mikro_orm_migrations where name = 'billing-004-key-spend'`);
    expect(await migrate(billingDatabase(database.url))).toEqual(['billing-004-key-spend']);
    expect(before).toHaveLength(5);
    expect(await database.rows(spend)).toEqual(before);
  });
});

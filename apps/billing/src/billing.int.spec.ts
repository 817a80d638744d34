import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Actor } from '@sluice/contracts/actor';
import { creditGrantedV1, priceSetV1, type Price } from '@sluice/contracts/billing';
import { wrap } from '@sluice/contracts/envelope';
import { usageBatchId, type UsageBatch, type UsageRecord } from '@sluice/contracts/gateway';
import { eventSubject, usageSubject } from '@sluice/contracts/subjects';
import { connect, type FeedMessage, type Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { createApp, ServiceTokens } from '@sluice/service-kit';
import { serviceKeys, withBacking } from '@sluice/testing';
import { billingDatabaseOf, type BillingDatabase } from './billing-database.fixture.js';
import { billingConfig } from './billing.config.js';
import { BillingModule, consume } from './billing.module.js';
import { ChargesStore } from './charges/charges.store.js';
import { PriceFileService } from './prices/price-file.service.js';

const backing = withBacking(['postgres', 'nats'], { own: true });
jest.setTimeout(60_000);

const base = { keyId: 'k', project: null, requestId: 'r-1', address: '127.0.0.1' };
const operator: Actor = { ...base, kind: 'operator', organizationId: null };
const manager = (organizationId: string): Actor => ({ ...base, kind: 'management', organizationId });
const PRICES = { input: '2000000', cachedInput: '1000000', output: '3000000' };

let folder: string;
let database: BillingDatabase;
let app: NestFastifyApplication;
let tokens: Record<'gateway' | 'auth' | 'router', ServiceTokens>;
let messaging: Messaging;
const published: FeedMessage[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'billing-'));
  await writeFile(priceFile(), JSON.stringify({ prices: [{ model: 'sim/small', prices: PRICES }] }));
  database = await billingDatabaseOf(await backing.database('billing'));
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(10_000);
  await messaging.provision();
  messaging.orderedConsumer('EVT_BILLING', {
    filter: 'evt.billing.>',
    start: 'all',
    onMessage: (message) => void published.push(message),
  });
  const { privateKeys, publicKeys } = await serviceKeys('gateway', 'auth', 'router', 'billing');
  tokens = {
    gateway: new ServiceTokens('gateway', privateKeys.gateway, publicKeys),
    auth: new ServiceTokens('auth', privateKeys.auth, publicKeys),
    router: new ServiceTokens('router', privateKeys.router, publicKeys),
  };
  const config = billingConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.billing),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    DATABASE_URL: database.url,
    NATS_URL: backing().nats.url,
    PRICES_FILE: priceFile(),
  });
  app = await createApp({ name: 'billing', config: () => config, module: (c) => BillingModule.with(c) }, config);
  consume(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
}, 300_000);
afterAll(async () => {
  await app?.close();
  await messaging?.close();
  await database?.close();
  if (folder) await rm(folder, { recursive: true });
});

const priceFile = () => join(folder, 'prices.json');

/** Every answer's fields; which of them are there is what the tests look at. */
interface Answer<Data> {
  readonly data: Data;
  readonly nextCursor: string | null;
  readonly error: { readonly code: string; readonly param?: string };
}
const call = async <Data>(
  method: string,
  path: string,
  { as, body, key }: { as?: Actor; body?: unknown; key?: string | undefined } = {},
) => {
  const response = await fetch(`${await app.getUrl()}${path}`, {
    method,
    headers: {
      authorization: await tokens.gateway.headerFor('billing', as),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(20_000),
  });
  return { status: response.status, body: (await response.json()) as Answer<Data> };
};
const until = async (what: string, check: () => Promise<boolean> | boolean) => {
  for (const end = Date.now() + 20_000; Date.now() < end; await new Promise((tick) => setTimeout(tick, 25))) {
    if (await check()) return;
  }
  throw new Error(`not seen in 20 s: ${what}`);
};
const grant = (body: Record<string, unknown>, key: string | null = systemId(), as = operator) =>
  call<{ transactionId: string }>('POST', '/api/operator/credits', { as, body, key: key ?? undefined });
/** An organization that auth has told about, with some credit. */
const organization = async (amount?: string) => {
  const organizationId = systemId();
  const type = 'sluice.auth.organization.created.v1';
  const createdAt = new Date().toISOString();
  const fields = {
    id: systemId(),
    source: '/sluice/auth',
    subject: organizationId,
    time: createdAt,
    correlationId: 'r',
  };
  const event = wrap(type, fields, { organizationId, name: 'Org', createdAt });
  await messaging.publish(eventSubject(type, organizationId, organizationId), event, { id: fields.id });
  if (amount === undefined) return organizationId;
  const key = systemId();
  await until('credit', async () => (await grant({ organizationId, amount, reason: 'test' }, key)).status === 200);
  return organizationId;
};
const status = async (organizationId: string) =>
  (await call<Record<string, unknown>>('GET', '/api/billing/status', { as: manager(organizationId) })).body.data;
const internal = async <T>(path: string) => (await call<never>('GET', path)).body as unknown as T;
const prices = async () => (await internal<{ prices: Price[] }>('/internal/prices')).prices;

const record = async (change: Partial<UsageRecord> = {}): Promise<UsageRecord> => ({
  requestId: systemId(),
  attempt: 1,
  seq: 0,
  organizationId: 'org-1',
  project: 'default',
  workload: 'chat',
  keyId: 'key-1',
  model: 'sim/small',
  endpoint: '/v1/chat/completions',
  stream: false,
  outcome: 'ok',
  rank: 4,
  estimated: false,
  inputTokens: '100',
  cachedInputTokens: '20',
  outputTokens: '30',
  priceVersion: (await prices()).find(({ model }) => model === 'sim/small')!.version,
  prices: PRICES,
  worker: 'w1',
  startedAt: new Date().toISOString(),
  endedAt: new Date().toISOString(),
  ttftMs: 12.5,
  ...change,
});
const batchOf = (...records: UsageRecord[]): UsageBatch => ({
  boot: systemId(),
  from: 0,
  to: records.length - 1,
  records: records.map((one, seq) => ({ ...one, seq })),
});
const publish = (batch: UsageBatch) => messaging.publish(usageSubject(1), batch, { id: usageBatchId(batch) });
const settled = async ({ boot }: UsageBatch) =>
  (await internal<{ below: number }>(`/internal/usage/settled/${boot}`)).below;

describe('billing, from the stream to the balance', () => {
  it('takes exactly tokens × price from the balance, and tells the gateway that the batch is settled', async () => {
    const organizationId = await organization('25');
    const batch = batchOf(await record({ organizationId }), await record({ organizationId }));
    await publish(batch);
    await until('settled', async () => (await settled(batch)) === 2);
    expect(await status(organizationId)).toEqual({
      balance: '24.99946',
      available: '24.99946',
      held: '0.00',
      currency: 'USD',
      spentThisMonth: '0.00054',
      lowBalanceThreshold: null,
      autoRecharge: null,
      subscriptions: [],
    });
    expect(await internal(`/internal/funds/${organizationId}`)).toEqual({ available: '24999460000000' });
  });

  it('charges once what comes again after a crash between the commit and the acknowledgement', async () => {
    const organizationId = await organization('1');
    const store = app.get(ChargesStore);
    const taken: number[] = [];
    const take = jest.spyOn(store, 'take').mockImplementation(async (batch) => {
      const decision = await ChargesStore.prototype.take.call(store, batch);
      taken.push(decision.duplicates);
      if (taken.length === 1) throw new Error('the process died after the commit');
      return decision;
    });
    await publish(batchOf(await record({ organizationId })));
    await until('a second delivery', () => taken.length === 2);
    take.mockRestore();
    expect(taken).toEqual([0, 1]);
    expect(await status(organizationId)).toMatchObject({ balance: '0.99973' });
  });

  it('sends what is not a batch to the dead letters at once, and goes on with the next', async () => {
    const dead: FeedMessage[] = [];
    const letters = messaging.orderedConsumer('DLQ', {
      filter: 'dlq.>',
      start: 'all',
      onMessage: (message) => void dead.push(message),
    });
    await messaging.publish(usageSubject(0), { junk: true }, { id: systemId() });
    const next = batchOf(await record());
    await publish(next);
    await until('settled', async () => (await settled(next)) === 1);
    await until('dead letter', () => dead.some(({ subject }) => subject === 'dlq.USAGE.billing-usage'));
    letters.close();
  });

  it('lists what moved, newest first, page by page', async () => {
    const organizationId = await organization('2');
    const batch = batchOf(await record({ organizationId, requestId: `r-${organizationId}` }));
    await publish(batch);
    await until('settled', async () => (await settled(batch)) === 1);
    const page = (cursor = '') =>
      call<Record<string, unknown>[]>('GET', `/api/billing/ledger?limit=1${cursor}`, { as: manager(organizationId) });
    const first = (await page()).body;
    expect(first.data).toEqual([
      expect.objectContaining({
        kind: 'usage',
        requestId: `r-${organizationId}`,
        currency: 'USD',
        entries: [
          { account: 'available', amount: '-0.00027' },
          { account: 'revenue:usage', amount: '0.00027' },
        ],
      }),
    ]);
    const second = (await page(`&cursor=${first.nextCursor}`)).body;
    expect(second).toMatchObject({ data: [{ kind: 'credit', description: 'test' }], nextCursor: null });
    const foreign = await call('GET', '/api/billing/ledger', { as: manager(await organization()) });
    expect(foreign.body).toMatchObject({ data: [], nextCursor: null });
  });

  it('answers 503, not an accident, while the database is away, and takes what waited afterwards', async () => {
    const organizationId = await organization('1');
    const batch = batchOf(await record({ organizationId }));
    await backing().postgres.stop();
    try {
      await publish(batch);
      expect(await call('GET', '/api/billing/status', { as: manager(organizationId) })).toMatchObject({
        status: 503,
        body: { error: { code: 'unavailable' } },
      });
    } finally {
      await backing().postgres.start();
    }
    await until('settled', async () => (await settled(batch).catch(() => 0)) === 1);
    expect(await status(organizationId)).toMatchObject({ balance: '0.99973' });
  });
});

describe('POST /api/operator/credits', () => {
  it('grants once per Idempotency-Key, also when it is sent many times at once, and says it once to others', async () => {
    const organizationId = await organization('0.5');
    const key = systemId();
    const body = { organizationId, amount: '1.50', reason: 'trial' };
    const answers = await Promise.all(Array.from({ length: 10 }, () => grant(body, key)));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(answers[0]).toMatchObject({
      status: 200,
      body: { data: { organizationId, amount: '1.50', currency: 'USD', reason: 'trial' } },
    });
    expect(await grant({ ...body, amount: '1.5' }, key)).toEqual(answers[0]);
    expect(await status(organizationId)).toMatchObject({ balance: '2.00' });
    const { transactionId } = answers[0]!.body.data;
    const events = () => published.filter(({ subject }) => subject.endsWith(`.${organizationId}.${transactionId}`));
    await until('the event', () => events().length > 0);
    const event = creditGrantedV1.parse(JSON.parse(new TextDecoder().decode(events()[0]!.data)));
    expect(event).toMatchObject({ id: transactionId, correlationid: 'r-1', data: { organizationId, amount: '1.50' } });
    expect(JSON.stringify(event)).not.toContain('trial');
  });

  it.each([{ amount: '2' }, { reason: 'other' }])('refuses the same key for another grant: %j', async (change) => {
    const organizationId = await organization('1');
    const key = systemId();
    const body = { organizationId, amount: '1', reason: 'x' };
    await grant(body, key);
    expect(await grant({ ...body, ...change }, key)).toMatchObject({
      status: 409,
      body: { error: { code: 'conflict', param: 'Idempotency-Key' } },
    });
    expect(await status(organizationId)).toMatchObject({ balance: '2.00' });
  });

  it('refuses the same key for two organizations at the same time: one of them gets it', async () => {
    const both = [await organization('1'), await organization('1')];
    const key = systemId();
    const answers = await Promise.all(
      both.map((organizationId) => grant({ organizationId, amount: '1', reason: 'x' }, key)),
    );
    expect(answers.map((answer) => answer.status).sort((a, b) => a - b)).toEqual([200, 409]);
  });

  it('knows no organization that auth has not told about, and says that it may be a moment', async () => {
    const answer = await grant({ organizationId: 'nobody', amount: '1', reason: 'x' });
    expect(answer).toMatchObject({ status: 404, body: { error: { code: 'not_found', param: 'organizationId' } } });
    expect(JSON.stringify(answer.body)).toContain('try again');
  });

  it('is for operators only: no credential of an organization can mint credit', async () => {
    const organizationId = await organization('1');
    const answer = await grant({ organizationId, amount: '1', reason: 'x' }, 'k', manager(organizationId));
    expect(answer).toMatchObject({ status: 403, body: { error: { code: 'scope_insufficient' } } });
    expect(await status(organizationId)).toMatchObject({ balance: '1.00' });
  });

  it.each([
    ['Idempotency-Key', {}, null],
    ['Idempotency-Key', {}, 'a b'],
    ['amount', { amount: '0' }, 'k'],
    ['amount', { amount: '-1' }, 'k'],
    ['amount', { amount: 1 }, 'k'],
    ['amount', { amount: '1.0000000000001' }, 'k'],
    ['reason', { reason: '' }, 'k'],
    ['colour', { colour: 'red' }, 'k'],
  ])('names the bad %s in %j', async (param, change, key) => {
    const answer = await grant({ organizationId: 'o', amount: '1', reason: 'x', ...change }, key);
    expect(answer).toMatchObject({ status: 400, body: { error: { code: 'invalid_request', param } } });
  });
});

describe('prices', () => {
  const set = (body: Record<string, unknown>, as = operator) =>
    call<Price>('POST', '/api/operator/prices', { as, body });

  it('are those of the file from the start, and reading it again makes no new version', async () => {
    const before = await prices();
    expect(before).toEqual([expect.objectContaining({ model: 'sim/small', prices: PRICES })]);
    const files = app.get(PriceFileService);
    await Promise.all([files.load(priceFile()), files.load(priceFile())]);
    expect(await prices()).toEqual(before);
  });

  it('refuse a file that is not a price list, naming what is wrong', async () => {
    const path = join(folder, 'bad.json');
    await writeFile(path, JSON.stringify({ prices: [{ model: 'm', prices: { ...PRICES, input: 0.15 } }] }));
    await expect(app.get(PriceFileService).load(path)).rejects.toThrow(/prices\[0\]\.prices\.input/);
  });

  it('are set as new versions, announced once, and the same price again is the same version', async () => {
    const body = { model: systemId(), prices: PRICES };
    const answers = await Promise.all(Array.from({ length: 5 }, () => set(body)));
    const { version } = answers[0]!.body.data;
    expect(answers.map((answer) => answer.body.data.version)).toEqual(Array(5).fill(version));
    const other = (await set({ ...body, prices: { ...PRICES, output: '1' } })).body.data;
    expect(other.version).not.toBe(version);
    expect((await prices()).filter(({ model }) => model === body.model)).toEqual([other]);
    const events = () =>
      published
        .map(({ data }) => priceSetV1.safeParse(JSON.parse(new TextDecoder().decode(data))))
        .flatMap((parsed) =>
          parsed.success && parsed.data.data.model === body.model ? [parsed.data.data.version] : [],
        );
    await until('both events', () => events().length >= 2);
    expect(new Set(events())).toEqual(new Set([version, other.version]));
  });

  it('that begin later are shown beside the one in force', async () => {
    const model = systemId();
    const now = (await set({ model, prices: PRICES })).body.data;
    const effectiveFrom = new Date(Date.now() + 3_600_000).toISOString();
    const later = (await set({ model, prices: { ...PRICES, input: '1' }, effectiveFrom })).body.data;
    expect((await prices()).filter((price) => price.model === model)).toEqual([now, later]);
  });

  it('are listed to operators, newest first, page by page', async () => {
    const page = (query: string) => call<Price[]>('GET', `/api/operator/prices?${query}`, { as: operator });
    const all = (await page('')).body;
    expect(all.nextCursor).toBeNull();
    const first = (await page('limit=1')).body;
    const rest = (await page(`cursor=${first.nextCursor}`)).body;
    expect([...first.data, ...rest.data]).toEqual(all.data);
  });

  it('are never changed, whoever tries', async () => {
    for (const statement of ['update prices set input = 1', 'delete from prices', 'truncate prices cascade']) {
      await expect(database.rows(statement)).rejects.toThrow(/immutable/);
    }
  });

  it.each([
    ['effectiveFrom', { effectiveFrom: '2020-01-01T00:00:00Z' }, 400],
    ['prices.input', { prices: { ...PRICES, input: '0.15' } }, 400],
    ['model', { model: '' }, 400],
  ])('name the bad %s', async (param, change, code) => {
    const answer = await set({ model: systemId(), prices: PRICES, ...change });
    expect(answer).toMatchObject({ status: code, body: { error: { param } } });
  });

  it('are set by operators only', async () => {
    expect((await set({ model: 'm', prices: PRICES }, manager('org-1'))).status).toBe(403);
    expect((await call('GET', '/api/operator/prices', { as: manager('org-1') })).status).toBe(403);
  });
});

describe('who may ask', () => {
  it.each([
    ['/internal/prices', 'auth', 200],
    ['/internal/funds/nobody', 'auth', 200],
    ['/internal/usage/settled/b', 'auth', 403],
    ['/internal/prices', 'router', 403],
    ['/api/billing/status', 'auth', 403],
  ] as const)('%s of %s is %i', async (path, service, expected) => {
    const authorization = await tokens[service].headerFor('billing');
    expect((await fetch(`${await app.getUrl()}${path}`, { headers: { authorization } })).status).toBe(expected);
  });

  it('shows the balance of all projects to no key of one of them', async () => {
    for (const path of ['/api/billing/status', '/api/billing/ledger']) {
      const answer = await call('GET', path, { as: { ...manager('org-1'), project: 'blue' } });
      expect(answer).toMatchObject({ status: 403, body: { error: { code: 'project_scope_mismatch' } } });
    }
  });
});

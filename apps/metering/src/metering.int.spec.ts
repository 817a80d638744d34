import { EntityManager } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Actor } from '@sluice/contracts/actor';
import { wrap } from '@sluice/contracts/envelope';
import { usageBatchId, type UsageBatch, type UsageRecord } from '@sluice/contracts/gateway';
import type { RefusalRow, UsageRow } from '@sluice/contracts/metering';
import { DLQ, eventSubject, KEYUSE, keyMeteredSubject, usageSubject, refusedSubject } from '@sluice/contracts/subjects';
import { aUsageBatch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import { migrate, type Quarantine } from '@sluice/event-store';
import { connect, type FeedMessage, type Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { createApp, QUARANTINE, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { withBacking, type FreshDatabase } from '@sluice/testing';
import { meteringDatabase } from './database.js';
import { meteringConfig } from './metering.config.js';
import { consume, MeteringModule } from './metering.module.js';
import { UsageStore } from './usage/usage.store.js';

const backing = withBacking(['postgres', 'nats'], { own: true });
const ORGANIZATION = 'org-1';
const actor: Actor = {
  kind: 'management',
  keyId: 'mk-1',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId: ORGANIZATION,
  project: null,
  requestId: 'r-1',
  address: '127.0.0.1',
};
const record = (change: Partial<UsageRecord> = {}): UsageRecord =>
  aUsageRecord({
    requestId: systemId(),
    organizationId: ORGANIZATION,
    prices: { input: '2000000', cachedInput: '1000000', output: '3000000' },
    startedAt: new Date().toISOString(),
    endedAt: new Date().toISOString(),
    ...change,
  });
const batchOf = (...records: UsageRecord[]): UsageBatch => aUsageBatch(inJournal(records), systemId());

/** Every answer's fields; which of them are there is what the tests look at. */
interface Answer {
  readonly data: UsageRow[];
  readonly nextCursor: string | null;
  readonly below: number;
  readonly error: { readonly code: string };
}

let database: FreshDatabase;
let app: NestFastifyApplication;
let gateway: ServiceTokens;
let messaging: Messaging;

beforeAll(async () => {
  database = await backing.database('metering');
  await migrate(meteringDatabase(database.url));
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  const { privateKeys, publicKeys } = await serviceKeys('gateway', 'metering');
  gateway = new ServiceTokens('gateway', privateKeys.gateway, publicKeys);
  const config = meteringConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.metering),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    DATABASE_URL: database.url,
    NATS_URL: backing().nats.url,
    KEY_TOTALS_EVERY_MS: '50',
  });
  app = await createApp({ name: 'metering', config: () => config, module: (c) => MeteringModule.with(c) }, config);
  consume(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
}, 300_000);
afterAll(async () => {
  await app?.close();
  await messaging?.close();
});

const get = async (path: string, who: Actor | undefined = actor) => {
  const response = await fetch(`${await app.getUrl()}${path}`, {
    headers: { authorization: await gateway.headerFor('metering', who) },
    signal: AbortSignal.timeout(60_000),
  });
  return { status: response.status, body: (await response.json()) as Answer };
};
const publish = (batch: UsageBatch, id = usageBatchId(batch)) =>
  messaging.publish(usageSubject(1), batch, { id, timeoutMs: 20_000 });
const settled = async ({ boot }: Pick<UsageBatch, 'boot'>) => (await get(`/internal/usage/settled/${boot}`)).body.below;
const until = async (what: string, check: () => Promise<boolean> | boolean) => {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((tick) => setTimeout(tick, 25))) {
    if (await check()) return;
  }
  throw new Error(`not seen in 60 s: ${what}`);
};
const usageOf = async (keyId: string) => (await get(`/api/usage?keyId=${keyId}&groupBy=key,model`)).body.data;

describe('metering, from the stream to the query', () => {
  it('books a batch from the stream and tells the gateway that it is settled', async () => {
    const startedAt = new Date().toISOString();
    const batch = batchOf(
      record({ keyId: 'key-a', startedAt, endedAt: startedAt }),
      record({ keyId: 'key-a', startedAt, endedAt: startedAt, outcome: 'error' }),
    );
    await publish(batch);
    await until('settled', async () => (await settled(batch)) === 2);
    expect(await usageOf('key-a')).toMatchObject([
      {
        bucket: `${startedAt.slice(0, 10)}T00:00:00.000Z`,
        keyId: 'key-a',
        keyName: null,
        model: 'sim/small',
        requestCount: 2,
        errorCount: 1,
        inputTokens: 200,
        cachedInputTokens: 40,
        outputTokens: 60,
        totalTokens: 260,
        audioMs: 0,
        cost: '0.00054',
        currency: 'USD',
      },
    ]);
  });

  it('counts once what comes again after a crash between the commit and the acknowledgement', async () => {
    const store = app.get(UsageStore);
    const taken: number[] = [];
    const take = jest.spyOn(store, 'take').mockImplementation(async (batch) => {
      const decision = await UsageStore.prototype.take.call(store, batch);
      taken.push(decision.duplicates);
      if (taken.length === 1) throw new Error('the process died after the commit');
      return decision;
    });
    await publish(batchOf(record({ keyId: 'key-b' })));
    await until('a second delivery', () => taken.length >= 2);
    take.mockRestore();
    expect(taken.slice(0, 2)).toEqual([0, 1]);
    expect(await usageOf('key-b')).toEqual([expect.objectContaining({ requestCount: 1, outputTokens: 30 })]);
  });

  it('counts once what a gateway publishes again in another batch, outside of the duplicate window', async () => {
    const one = batchOf(record({ keyId: 'key-c' }), record({ keyId: 'key-c' }));
    const again = {
      ...one,
      boot: systemId(),
      records: [...one.records, { ...record({ keyId: 'key-c' }), seq: 2 }],
      to: 2,
    };
    await publish(one);
    await publish(one, systemId());
    await publish(again);
    await until('settled', async () => (await settled(again)) === 3);
    expect(await usageOf('key-c')).toEqual([expect.objectContaining({ requestCount: 3, outputTokens: 90 })]);
  });

  it('sends what is not a batch to the dead letters at once, unchanged, and goes on with the next', async () => {
    const dead: FeedMessage[] = [];
    const letters = messaging.orderedConsumer(DLQ, {
      filter: 'dlq.>',
      start: 'all',
      onMessage: (message) => void dead.push(message),
    });
    const junk = { ...batchOf(record()), records: [{ ...record(), inputTokens: 'many' }] };
    await messaging.publish(usageSubject(0), junk, { id: systemId(), timeoutMs: 20_000 });
    const next = batchOf(record({ keyId: 'key-d' }));
    await publish(next);
    await until('settled', async () => (await settled(next)) === 1);
    await until('dead letter', () => dead.some(({ subject }) => subject === 'dlq.USAGE.metering-usage-0'));
    letters.close();
    expect(JSON.parse(new TextDecoder().decode(dead[0]!.data))).toEqual(junk);
    expect(await settled(junk)).toBe(0);
  });

  it('shows the name of a key once auth has told it', async () => {
    const data = {
      organizationId: ORGANIZATION,
      project: 'default',
      keyId: 'key-a',
      kind: 'credit',
      name: 'Night batch',
      keyPrefix: 'sk_live_abcdefgh',
      createdAt: new Date().toISOString(),
    };
    const type = 'sluice.auth.key.issued.v1';
    const fields = {
      id: crypto.randomUUID(),
      source: '/sluice/auth',
      subject: 'key-a',
      time: data.createdAt,
      correlationId: 'r',
    };
    const publishEvent = (envelope: { id: string }, keyId = 'key-a') =>
      messaging.publish(eventSubject(type, ORGANIZATION, keyId), envelope, { id: envelope.id, timeoutMs: 20_000 });
    await publishEvent(wrap(type, fields, data));
    await until('name', async () => JSON.stringify(await usageOf('key-a')).includes('Night batch'));

    const rename = async (name: string, time: string) => {
      const { createdAt: _, kind: _kind, ...about } = data;
      const type = 'sluice.auth.key.updated.v1';
      const envelope = wrap(
        type,
        { ...fields, id: crypto.randomUUID(), time },
        { ...about, name, changed: ['name'], updatedAt: time },
      );
      await messaging.publish(eventSubject(type, ORGANIZATION, 'key-a'), envelope, {
        id: envelope.id,
        timeoutMs: 20_000,
      });
    };
    const now = Date.parse(data.createdAt);
    await rename('Day batch', new Date(now + 2_000).toISOString());
    await until('new name', async () => JSON.stringify(await usageOf('key-a')).includes('Day batch'));
    // Late, by a redelivery: the newer name stays.
    await rename('Dawn batch', new Date(now + 1_000).toISOString());
    await rename('Noon batch', new Date(now + 3_000).toISOString());
    await until('newest name', async () => JSON.stringify(await usageOf('key-a')).includes('Noon batch'));
    await rename('Dusk batch', new Date(now + 2_500).toISOString());
    await publishEvent(wrap(type, { ...fields, id: crypto.randomUUID() }, data));
    // They come in order: with the name of another key those of this one are taken.
    const behind = { ...fields, id: crypto.randomUUID(), subject: 'key-b' };
    await publishEvent(wrap(type, behind, { ...data, keyId: 'key-b', name: 'Behind' }), 'key-b');
    await until('the name behind', async () => JSON.stringify(await usageOf('key-b')).includes('Behind'));
    expect(JSON.stringify(await usageOf('key-a'))).toContain('Noon batch');
  });

  it('takes what waited in the stream after the database was away, and loses nothing', async () => {
    const batch = batchOf(record({ keyId: 'key-e' }));
    await backing().postgres.stop();
    try {
      await publish(batch);
      expect((await get('/readyz')).status).toBe(503);
    } finally {
      await backing().postgres.start();
    }
    await until('settled', async () => (await settled(batch).catch(() => 0)) === 1);
    expect(await usageOf('key-e')).toEqual([expect.objectContaining({ requestCount: 1 })]);
  });

  it('tells what a key has used in all, a moment later, with every batch that came', async () => {
    const told: unknown[] = [];
    const follower = messaging.orderedConsumer(KEYUSE, {
      filter: keyMeteredSubject('key-total'),
      start: 'all',
      onMessage: ({ data }) => void told.push(JSON.parse(new TextDecoder().decode(data))),
    });
    const one = record({ keyId: 'key-total' });
    await publish(batchOf(one));
    await publish(batchOf(one, record({ keyId: 'key-total' })));
    const totals = { keyId: 'key-total', organizationId: ORGANIZATION, requestCount: '2', inputTokens: '200' };
    await until('the totals of both', () => JSON.stringify(told.at(-1) ?? '').includes('"requestCount":"2"'));
    follower.close();
    expect(told.at(-1)).toMatchObject({ ...totals, outputTokens: '60' });
  });

  it('keeps what contradicts until an operator has given it up with a reason', async () => {
    const one = record({ keyId: 'key-q' });
    const other = { ...one, outputTokens: '31' };
    const batch = batchOf(one, other);
    await publish(batch);
    await until('settled', async () => (await settled(batch)) === 2);
    const operator: Actor = { ...actor, kind: 'operator', organizationId: null };
    const path = '/api/operator/quarantine/metering';
    const waiting = async () =>
      ((await get(path, operator)).body.data as unknown as { id: string; hash: string; reason: string }[]).filter(
        ({ id }) => id === one.requestId,
      );
    const { hash, reason } = (await waiting())[0]!;
    expect(reason).toBe('conflict');
    const redriven = await app.get<Quarantine>(QUARANTINE).redrive(hash);
    expect(redriven).toEqual({ result: 'stays', reason: 'conflict' });
    await app.get<Quarantine>(QUARANTINE).drop(hash, 'a gateway that counted twice');
    expect(await waiting()).toEqual([]);
    expect(await usageOf('key-q')).toEqual([expect.objectContaining({ requestCount: 1, outputTokens: 30 })]);
    expect((await get(path)).status).toBe(403);
    expect((await get(`${path}/%00`, operator)).status).toBe(400);
  });

  it('shows what gateways refused, and sends what is no such count to the dead letters', async () => {
    const of = { organizationId: ORGANIZATION, project: '', keyId: 'key-a', model: '', code: 'queue_full' };
    const counts = [{ ...of, minute: new Date().toISOString(), count: 3 }];
    const tell = (payload: object) =>
      messaging.publish(refusedSubject('boot-r'), payload, { id: systemId(), timeoutMs: 20_000 });
    await tell({ boot: 'boot-r', counts: [] });
    await tell({ boot: 'boot-r', counts });
    const asked = async () => (await get('/api/usage/refusals?groupBy=code')).body.data as unknown as RefusalRow[];
    await until('the refusals', async () => (await asked()).length > 0);
    expect(await asked()).toEqual([expect.objectContaining({ code: 'queue_full', refusalCount: 3 })]);
    const metrics = async () => (await fetch(`${await app.getUrl()}/metrics`)).text();
    await until('the dead letter', async () =>
      /^dead_letters_waiting\{.*metering-refusals.* 1$/m.test(await metrics()),
    );
  });

  it('counts what it took, for Prometheus', async () => {
    const text = await (await fetch(`${await app.getUrl()}/metrics`)).text();
    expect(text).toMatch(/sluice_metering_tokens_total\{model="sim\/small",direction="output"\} \d+/);
    expect(text).toMatch(/sluice_metering_duplicates_total [1-9]/);
    expect(text).toMatch(/sluice_metering_lag_seconds \d/);
    expect(text).toMatch(/sluice_metering_key_totals_late_seconds \d/);
    expect(text).toMatch(/messages_handled_total\{consumer="metering-usage-1",outcome="done"\} [1-9]/);
    expect(text).toMatch(/messages_handled_total\{consumer="metering-usage-0",outcome="dead"\} 1/);
    expect(text).toMatch(/dead_letters_waiting\{consumer="metering-usage-0"\} 1/);
  });
});

describe('GET /api/usage', () => {
  const list = async (query: string, who: Actor = actor) => get(`/api/usage?${query}`, who);

  beforeAll(async () => {
    const times = ['2026-03-01T10:00:00Z', '2026-03-01T10:00:30Z', '2026-03-01T10:01:00Z', '2026-03-02T00:00:00Z'];
    const batch = batchOf(
      ...times.flatMap((endedAt) =>
        ['red', 'blue'].map((project) =>
          record({ organizationId: 'org-2', endedAt, project, keyId: `key-${project}` }),
        ),
      ),
    );
    await app.get(UsageStore).take(batch);
  });
  const second: Actor = { ...actor, organizationId: 'org-2' };

  it('is half-open: the end of the window is outside, and windows side by side count nothing twice', async () => {
    const counts = async (from: string, to: string) =>
      (await list(`from=${from}&to=${to}&granularity=minute`, second)).body.data.map((r) => r.requestCount);
    expect(await counts('2026-03-01T10:00:00Z', '2026-03-01T10:01:00Z')).toEqual([4]);
    expect(await counts('2026-03-01T10:01:00Z', '2026-03-02T00:00:00Z')).toEqual([2]);
    expect(await counts('2026-03-01T10:00:00Z', '2026-03-02T00:00:00Z')).toEqual([4, 2]);
  });

  it('goes through all rows page by page, each once', async () => {
    const query = 'from=2026-03-01&to=2026-03-02&granularity=minute&groupBy=key,workload&limit=1';
    const seen: unknown[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const { body }: { body: Answer } = await list(`${query}${cursor && `&cursor=${cursor}`}`, second);
      seen.push(...body.data.map((row) => `${row.bucket!.slice(11, 16)} ${row.keyId} ${row.project}/${row.workload}`));
      cursor = body.nextCursor;
    }
    expect(seen).toEqual([
      '10:00 key-blue blue/chat',
      '10:00 key-red red/chat',
      '10:01 key-blue blue/chat',
      '10:01 key-red red/chat',
    ]);
  });

  it('shows an organization its own usage only, and a key of one project that project only', async () => {
    const window = 'from=2026-03-01&to=2026-04-01';
    expect((await list(window)).body.data).toEqual([]);
    const blue = { ...second, project: 'blue' };
    expect((await list(`${window}&groupBy=project`, blue)).body.data.map((r) => r.project)).toEqual(['blue', 'blue']);
    expect(await list(`${window}&project=red`, blue)).toMatchObject({
      status: 403,
      body: { error: { code: 'project_scope_mismatch', param: 'project' } },
    });
  });

  it.each([
    ['from', 'from=never'],
    ['from', 'from=2026-03-02&to=2026-03-01'],
    ['from', 'from=2026-01-01&to=2026-03-01&granularity=hour'],
    ['granularity', 'granularity=week'],
    ['groupBy', 'groupBy=colour'],
    ['workload', 'workload=%00'],
    ['limit', 'limit=1001'],
    ['cursor', 'cursor=junk'],
    ['colour', 'colour=red'],
    ['from', 'from=2026-03-01&from=2026-03-02'],
  ])('names the bad parameter %s of ?%s', async (param, query) => {
    expect(await list(query)).toMatchObject({
      status: 400,
      body: { success: false, error: { code: 'invalid_request', param } },
    });
  });

  it('is for the gateway, in the name of an organization', async () => {
    const url = `${await app.getUrl()}/api/usage`;
    expect((await fetch(url)).status).toBe(401);
    expect((await list('', { ...actor, kind: 'operator', organizationId: null })).body.error.code).toBe(
      'wrong_credential_type',
    );
    const itself = await app.get(ServiceTokens).headerFor('metering');
    expect((await fetch(url, { headers: { authorization: itself } })).status).toBe(403);
  });
});

it('keeps the rollups readable for dashboards under their plain names', async () => {
  const tables = await app
    .get(EntityManager)
    .fork()
    .execute(`select table_name as name from information_schema.tables where table_schema = 'public' order by 1`);
  expect(tables.map((table) => (table as { name: string }).name)).toEqual(
    expect.arrayContaining(['key_names', 'usage_by_day', 'usage_by_hour', 'usage_by_minute']),
  );
});

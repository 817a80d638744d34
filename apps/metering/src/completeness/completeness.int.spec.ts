import { EntityManager } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Actor } from '@sluice/contracts/actor';
import { replayedBatchId, usageBatchId, type Horizon, type UsageBatch } from '@sluice/contracts/gateway';
import { horizonBegunSubject, horizonToldSubject, usageSubject } from '@sluice/contracts/subjects';
import { aUsageBatch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { connect, type Messaging } from '@sluice/messaging';
import { rfc3339 } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { createApp, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { meteringDatabase } from '../database.js';
import { meteringConfig } from '../metering.config.js';
import { consume, MeteringModule } from '../metering.module.js';
import { Completeness } from './completeness.service.js';

const backing = withBacking(['postgres', 'nats'], { own: true });
const manager: Actor = {
  kind: 'management',
  keyId: 'mk-1',
  memberId: null,
  role: null,
  scopes: ['analytics:read'],
  organizationId: 'org-1',
  project: null,
  requestId: 'r-1',
  address: '127.0.0.1',
};
const operator: Actor = { ...manager, kind: 'operator', scopes: [], organizationId: null };

let database: Client;
let app: NestFastifyApplication;
let gateway: ServiceTokens;
let messaging: Messaging;
let config: ReturnType<typeof meteringConfig>;
const events: { type: string; data: Record<string, unknown> }[] = [];

/** Of this process the stream loses a batch before metering has been there. */
const LOSER = systemId();

beforeAll(async () => {
  const { url } = await backing.database('completeness');
  await migrate(meteringDatabase(url));
  database = new Client({ connectionString: url });
  await database.connect();
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  messaging.orderedConsumer('EVT_METERING', {
    filter: 'evt.metering.>',
    start: 'all',
    onMessage: ({ data }) => void events.push(JSON.parse(new TextDecoder().decode(data)) as (typeof events)[number]),
  });
  const { privateKeys, publicKeys } = await serviceKeys('gateway', 'metering');
  gateway = new ServiceTokens('gateway', privateKeys.gateway, publicKeys);
  config = meteringConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.metering),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    DATABASE_URL: url,
    NATS_URL: backing().nats.url,
    GAP_AFTER_MS: '300',
  });
  await publish(batch(LOSER, 0, 3));
  const { sequence } = await publish(batch(LOSER, 3, 7));
  await publish(batch(LOSER, 7, 9));
  await (await messaging.manager()).streams.deleteMessage('USAGE', sequence);
  app = await createApp({ name: 'metering', config: () => config, module: (c) => MeteringModule.with(c) }, config);
  consume(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
}, 300_000);
afterAll(async () => {
  await app?.close();
  await messaging?.close();
  await database?.end();
});

const ask = async (path: string, actor?: Actor, body?: unknown) => {
  const response = await fetch(`${await app.getUrl()}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: await gateway.headerFor('metering', actor), 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  return { status: response.status, body: (text === '' ? undefined : JSON.parse(text)) as Answer };
};
interface Answer {
  readonly below: number;
  readonly missing: [number, number][];
  readonly data: {
    readonly closed: boolean;
    readonly closedUntil: string | null;
    readonly missing: { readonly gateways: number; readonly records: number };
  };
}
const publish = (batch: UsageBatch, id = usageBatchId(batch)) =>
  messaging.publish(usageSubject(1), batch, { id, timeoutMs: 20_000 });
const batch = (boot: string, from: number, to: number): UsageBatch =>
  aUsageBatch(
    Array.from({ length: to - from }, (_, i) =>
      aUsageRecord({ requestId: `${boot}-${from + i}`, seq: from + i, keyId: boot, organizationId: 'org-1' }),
    ),
    boot,
  );
const settledOf = async (boot: string, published: number, held = 0) =>
  (await ask(`/internal/usage/settled/${boot}?published=${published}&held=${held}`)).body;
const T0 = Date.now() - 600_000;
const at = (seconds: number) => rfc3339(T0 + seconds * 1_000);
const tell = (boot: string, change: Partial<Horizon> = {}, subject = horizonToldSubject(boot)) =>
  messaging.publish(subject, { boot, seq: 0, until: at(0), final: false, ...change } satisfies Horizon, {
    id: systemId(),
    timeoutMs: 20_000,
  });
const windowTo = async (to: string, from = at(-1_000)) =>
  (await ask(`/api/usage/completeness?from=${from}&to=${to}`, manager)).body.data;
const closedTo = async (to: string) => (await windowTo(to)).closed;

describe('gaps, with the servers that there are', () => {
  it('a batch that the stream lost before metering took it is seen, told once, asked for, booked once, and told to be there', async () => {
    const boot = LOSER;
    const lost = batch(boot, 3, 7);
    await until(async () => (await settledOf(boot, 9)).missing.length > 0);
    expect(await settledOf(boot, 9)).toEqual({ below: 3, missing: [[3, 7]] });
    // The server would not even take it under the name that it remembers.
    expect(await publish(lost)).toMatchObject({ duplicate: true });
    for (let n = 0; n < 2; n++) await publish(lost, replayedBatchId(lost, systemId()));
    await until(async () => (await settledOf(boot, 9)).below === 9);
    const about = () => events.filter(({ data }) => data['boot'] === boot);
    await until(() => about().length >= 2);
    expect(about().map(({ type, data }) => [type, data['from'], data['to'], data['how']])).toEqual([
      ['sluice.metering.usage.gap.v1', 3, 7, undefined],
      ['sluice.metering.usage.gap_closed.v1', 3, 7, 'replayed'],
    ]);
    const { rows } = await database.query(
      'select sum(request_count)::int as requests, sum(output_tokens)::int as output from usage_by_day where key_id = $1',
      [boot],
    );
    expect(rows).toEqual([{ requests: 9, output: 9 * 30 }]);
  });

  it('a batch that is lost at the end, with nothing behind it, is missed as its gateway says that it was published', async () => {
    const boot = systemId();
    await publish(batch(boot, 0, 2));
    await until(async () => (await settledOf(boot, 5)).missing.length > 0);
    expect(await settledOf(boot, 5)).toEqual({ below: 2, missing: [[2, 5]] });
  });

  it('of a process that nobody asks for, as a router, what is missing is given up and said so', async () => {
    const boot = systemId();
    await publish(batch(boot, 4, 6));
    const about = () => events.filter(({ data }) => data['boot'] === boot);
    await until(() => about().length >= 2);
    expect(about()[1]).toMatchObject({ data: { from: 0, to: 4, how: 'given_up' } });
  });
});

describe('windows', () => {
  it('are closed when every gateway has told of all that ended in them, and all of that is here', async () => {
    const [one, other] = [systemId(), systemId()];
    for (const boot of [one, other]) await tell(boot, {}, horizonBegunSubject(boot));
    await until(() => closedTo(at(0)));
    await tell(one, { seq: 3, until: at(10) });
    await tell(other, { seq: 0, until: at(20) });
    // They are heard in their order: who knows of the records knows of both, and of the other's horizon in the end.
    const behind = async () => (await windowTo(at(5))).missing;
    await until(async () => (await behind()).records === 3 && (await behind()).gateways === 1);
    expect(await windowTo(at(5))).toMatchObject({ closed: false, missing: { gateways: 1, records: 3 } });
    await publish(batch(one, 0, 3));
    await until(() => closedTo(at(10)));
    expect(await windowTo(at(11))).toMatchObject({ closed: false, closedUntil: at(10), missing: { gateways: 1 } });
    await tell(one, { seq: 3, until: at(15), final: true });
    await until(() => closedTo(at(20)));
    await tell(other, { seq: 0, until: at(20), final: true });
    await until(() => closedTo(at(500)));
  });

  it('stay open when a gateway died with requests in flight, until its successor has told and published the rest', async () => {
    const [dead, successor] = [systemId(), systemId()];
    await tell(dead, { seq: 2, until: at(520) });
    await publish(batch(dead, 0, 2));
    await until(() => closedTo(at(520)));
    await tell(successor, { until: at(525) }, horizonBegunSubject(successor));
    await tell(successor, { until: at(560) });
    // What the dead one had open: one record more.
    await tell(dead, { seq: 3, until: at(530), final: true });
    await until(async () => (await windowTo(at(550))).missing.records === 1);
    expect(await windowTo(at(550))).toMatchObject({ closed: false, closedUntil: at(520) });
    await publish(batch(dead, 2, 3));
    await until(() => closedTo(at(560)));
    await tell(successor, { until: at(561), final: true });
    await until(() => closedTo(at(570)));
  });

  it('are closed by an operator over a gateway whose machine burnt, not over one that lives, and open again should it', async () => {
    const burnt = systemId();
    const path = `/api/operator/usage/boots/${burnt}/close`;
    expect((await ask(path, operator, { reason: 'burnt' })).status).toBe(404);
    expect(
      (await ask('/internal/usage/horizons', undefined, { boot: burnt, seq: 7, until: at(571), final: false })).status,
    ).toBe(204);
    expect(await closedTo(at(580))).toBe(false);
    expect((await ask(path, operator, { reason: 'burnt' })).status).toBe(409);
    await database.query(`update usage_boots set told_at = told_at - interval '5 minutes' where boot = $1`, [burnt]);
    expect((await ask(path, manager, { reason: 'burnt' })).status).toBe(403);
    expect((await ask(path, operator, { reason: ' ' })).status).toBe(400);
    for (let n = 0; n < 2; n++) expect((await ask(path, operator, { reason: 'burnt' })).status).toBe(200);
    expect(await closedTo(at(580))).toBe(true);
    const listed = (await ask('/api/operator/usage/completeness', operator)).body.data;
    expect(listed).toEqual([expect.objectContaining({ boot: burnt, seq: 7, missing: 7, closedReason: 'burnt' })]);
    await tell(burnt, { seq: 7, until: at(575) });
    await until(async () => !(await closedTo(at(580))));
    await publish(batch(burnt, 0, 7));
    await tell(burnt, { seq: 7, until: at(576), final: true });
    await until(() => closedTo(at(580)));
  });

  it('stay open while nobody is known and there is still to be heard who has begun', async () => {
    await until(() => closedTo(at(580)));
    const [first, second] = [systemId(), systemId()];
    // What a booking waits for, too: the first stays in work, the second in the stream.
    await database.query('select pg_advisory_lock(hashtextextended($1, 0))', [`horizon ${first}`]);
    for (const boot of [first, second]) await tell(boot, { until: at(582) }, horizonBegunSubject(boot));
    await until(async () => !(await closedTo(at(583))));
    expect(await windowTo(at(583))).toMatchObject({ closed: false, closedUntil: null });
    await database.query('select pg_advisory_unlock_all()');
    await until(async () => (await windowTo(at(583))).missing.gateways === 2);
    expect(await windowTo(at(583))).toMatchObject({ closed: false, closedUntil: at(582) });
    for (const boot of [first, second]) await tell(boot, { until: at(583), final: true });
    await until(() => closedTo(at(584)));
  });

  it('stay open over one that is heard of for the first time while it is asked whether all were', async () => {
    const boot = systemId();
    const completeness: Completeness = new Completeness(app.get(EntityManager), async () => {
      await completeness.hear({ boot, seq: 0, until: at(585), final: false });
      return { through: Number.POSITIVE_INFINITY };
    });
    const asked = await completeness.window(T0 + 586_000, Date.now());
    expect(asked).toEqual({ closed: false, closedUntil: T0 + 585_000, missing: { gateways: 1, records: 0 } });
    await tell(boot, { until: at(586), final: true });
    await until(() => closedTo(at(587)));
  });

  it('stay open while nobody is known and NATS is away, which may know of some', async () => {
    await backing().nats.stop();
    await until(async () => !(await closedTo(at(587))));
    expect(await windowTo(at(587))).toMatchObject({ closedUntil: null, missing: { gateways: 0, records: 0 } });
    await backing().nats.start();
    await until(() => closedTo(at(587)));
  });

  it.each([
    ['from=2026-01-02&to=2026-01-01', 'to'],
    ['from=2026-01-02', 'to'],
    ['from=yesterday&to=2026-01-01', 'from'],
    ['from=2026-01-01&to=2026-01-02&boot=1', 'boot'],
  ])('of %s are refused by name', async (query, param) => {
    const { status, body } = await ask(`/api/usage/completeness?${query}`, manager);
    expect([status, (body as unknown as { error: { param: string } }).error.param]).toEqual([400, param]);
  });

  it('show an organization nothing of the processes, and operators no window', async () => {
    expect((await ask('/api/operator/usage/completeness', manager)).status).toBe(403);
    expect((await ask(`/api/usage/completeness?from=${at(0)}&to=${at(1)}`, operator)).status).toBe(403);
    expect(Object.keys(await windowTo(at(1))).sort()).toEqual(['closed', 'closedUntil', 'from', 'missing', 'to']);
  });
});

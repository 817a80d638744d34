// What metering can be held to over whole processes: its tables by the command that makes them anew, spikes by who listens.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { AckPolicy } from '@nats-io/jetstream';
import { usageSpikeV1, type UsageRow } from '@sluice/contracts/metering';
import { connect, type Messaging } from '@sluice/messaging';
import { Client } from 'pg';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

let stack: TestStack;
let metering: Client;
beforeAll(async () => {
  stack = await startTestStack({ workers: 1 });
  metering = new Client({ connectionString: stack.databases.metering });
  await metering.connect();
}, STACK_START_MS);
afterAll(async () => {
  await metering?.end();
  await stack?.stop();
}, 60_000);

const manage = <T>(method: string, path: string, body?: unknown) =>
  call<{ data: T }>(stack.baseUrl, stack.demo.managementKey, method, path, body);

/** A key that has made so many requests, which are booked. */
async function keyWithUsage(requests: number, promptTokens: number): Promise<string> {
  const { body: made } = await manage<{ id: string; apiKey: string }>('POST', '/api/keys/credit', { name: 'k' });
  const { id, apiKey } = made.data;
  const messages = [{ role: 'user', content: 'word '.repeat(promptTokens) }];
  for (let i = 0; i < requests; i++) {
    const body = { model: stack.models[1], messages, max_tokens: 3 };
    expect((await call(stack.baseUrl, apiKey, 'POST', '/v1/chat/completions', body)).status).toBe(200);
  }
  await eventually(async () => (await used(id))[0]?.requestCount === requests);
  return id;
}
/** A day of its own before it: a day may begin while this runs. */
const FROM = new Date(Date.now() - 48 * 3_600_000).toISOString().slice(0, 10);
const used = async (keyId: string, granularity = 'total') =>
  (await manage<UsageRow[]>('GET', `/api/keys/${keyId}/usage?from=${FROM}&granularity=${granularity}`)).body.data;

describe('npm run rebuild -- metering', () => {
  interface Verdict {
    readonly ok: boolean;
    readonly records: number;
    readonly days: number;
    readonly rows: Readonly<Record<string, number>>;
    readonly different: Readonly<Record<string, number>>;
    readonly repaired?: Readonly<Record<string, number>>;
  }
  const NONE = { usage_by_minute: 0, usage_by_hour: 0, usage_by_day: 0, key_totals: 0 };

  /** As a person types it, but for the database, which is not that of this folder. */
  async function rebuild(...options: string[]) {
    const env = { ...process.env, NODE_OPTIONS: '', DATABASE_URL: stack.databases.metering };
    const typed = ['run', 'rebuild', '--', 'metering', ...options];
    const { code, stdout } = await run('npm', typed, { cwd: ROOT, env }).then(
      (done) => ({ code: 0, stdout: done.stdout }),
      (failed: { code: number; stdout: string }) => failed,
    );
    return { code, stdout, verdict: JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Verdict };
  }

  it('proves what a running Sluice has booked, names a row that somebody changed, mends it, and proves it again', async () => {
    const keyId = await keyWithUsage(3, 10);
    const before = await used(keyId, 'hour');

    const [proven] = await Promise.all([rebuild(), keyWithUsage(2, 10)]);
    expect(proven).toMatchObject({ code: 0, verdict: { ok: true, different: NONE } });
    expect(proven.verdict.records).toBeGreaterThanOrEqual(3);
    for (const table of Object.keys(NONE)) expect([table, proven.verdict.rows[table]! > 0]).toEqual([table, true]);

    const row = '(select ctid from usage_by_hour where key_id = $1 limit 1)';
    await metering.query(`update usage_by_hour set output_tokens = output_tokens + 7 where ctid = ${row}`, [keyId]);
    expect(await used(keyId, 'hour')).not.toEqual(before);
    const wrong = await rebuild();
    expect(wrong).toMatchObject({ code: 1, verdict: { ok: false, different: { ...NONE, usage_by_hour: 1 } } });
    const shown = wrong.stdout.split('\n').filter((line) => line.startsWith('  [live, rebuilt]: '));
    expect(shown.map((line) => JSON.parse(line.slice(line.indexOf('{'))) as unknown)).toMatchObject([
      { keyId, model: stack.models[1], outputTokens: [expect.any(String), expect.any(String)] },
    ]);

    const mended = await rebuild('--repair');
    expect(mended).toMatchObject({ code: 0, verdict: { ok: true, repaired: { ...NONE, usage_by_hour: 1 } } });
    expect(await used(keyId, 'hour')).toEqual(before);
    expect(await rebuild()).toMatchObject({ code: 0, verdict: { ok: true, different: NONE } });
  }, 180_000);
});

describe('usage.spike', () => {
  let nats: Messaging;
  beforeAll(async () => {
    nats = connect({ url: stack.natsUrl('admin'), name: 'test' });
    await nats.whenConnected(30_000);
  }, 60_000);
  afterAll(() => nats?.close());

  it('is heard by who listens, when a key has used more than its organization calls usual', async () => {
    const manager = await nats.manager();
    await manager.consumers.add('EVT_METERING', {
      durable_name: 'alerts',
      filter_subject: 'evt.metering.usage.spike.v1.>',
      ack_policy: AckPolicy.Explicit,
    });
    expect((await manage('PUT', '/api/settings', { usageSpikeFactor: 3 })).status).toBe(200);
    await eventually(async () => (await metering.query('select from spike_factors where factor = 3')).rowCount === 1);

    // Twice what is looked at: should an hour begin meanwhile, one of the two has enough.
    const keyId = await keyWithUsage(12, 20_000);
    // Nobody can wait for hours: the past is put there.
    await metering.query(
      `insert into usage_by_hour (organization_id, bucket, key_id, model, project, workload, outcome, request_count,
         input_tokens, cached_input_tokens, output_tokens, cost_pico)
       select organization_id, bucket - ago * interval '1 hour', key_id, model, project, workload, outcome, 1, 4000, 0, 1000, 0
       from (select * from usage_by_hour where key_id = $1 order by bucket limit 1) as now, generate_series(2, 4) as ago`,
      [keyId],
    );
    // It looks when it begins, and each minute.
    await stack.services.metering.stop();
    stack.services.metering.start();
    await stack.services.metering.ready(60_000);

    const message = await eventually(async () => {
      const consumer = await manager.jetstream().consumers.get('EVT_METERING', 'alerts');
      return (await consumer.next({ expires: 5_000 })) ?? undefined;
    }, 120_000);
    const { data } = usageSpikeV1.parse(message.json());
    expect(data).toMatchObject({ organizationId: stack.demo.organizationId, keyId, usualTokens: '5000', factor: 3 });
    expect(Number(data.totalTokens)).toBeGreaterThanOrEqual(100_000);
    expect(await message.ackAck()).toBe(true);
    const { num_pending, num_ack_pending } = await manager.consumers.info('EVT_METERING', 'alerts');
    expect([num_pending, num_ack_pending]).toEqual([0, 0]);
  }, 300_000);
});

// Usage through the faults that a consumer has to live with, on a whole metering with its own servers. Whatever happens on the
// way, every table is the sum of what was sent, to the row.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { jetstreamManager, type JetStreamManager } from '@nats-io/jetstream';
import { connect as connectNats, type NatsConnection } from '@nats-io/transport-node';
import { USAGE_PARTITIONS, usageSubject } from '@sluice/contracts/subjects';
import { connect, type Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { Proxy } from '../prove/revocation/proxy.ts';
import { randomFrom } from '../prove/runner/random.ts';
import { eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';
import { Books, Sent, type Delivery } from './metering-books.fixture.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Waits are for conditions; only what hangs is given up. */
const HOPELESS_MS = 300_000;
const ACKS = 'PUB $JS.ACK.USAGE.metering-usage';
const seed = Date.now() % 2 ** 32;

let stack: TestStack;
let link: Proxy;
let gateway: Messaging;
let nats: NatsConnection;
let manager: JetStreamManager;
let books: Books;
let sent: Sent;
let organizationId: string;

beforeAll(async () => {
  console.log(`seed ${seed}`);
  link = await Proxy.listen('metering to NATS');
  stack = await startTestStack({
    workers: 0,
    rewire: (program) =>
      program.name === 'metering'
        ? { ...program, env: { ...program.env, NATS_URL: link.through(program.env['NATS_URL']!) } }
        : program,
  });
  gateway = connect({ url: stack.natsUrl('gateway'), name: 'test' });
  await gateway.whenConnected(60_000);
  const admin = new URL(stack.natsUrl('admin'));
  nats = await connectNats({
    servers: admin.host,
    user: admin.username,
    pass: admin.password,
    inboxPrefix: '_INBOX.admin',
    maxReconnectAttempts: -1,
  });
  manager = await jetstreamManager(nats, { checkAPI: false });
  books = new Books(stack.databases.metering);
  // Servers of tests forget the last commits in a kill, to be fast. Who acknowledges after a commit relies on it.
  await books.query('alter database metering set synchronous_commit = on');
  await books.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1', [
    'sluice-metering',
  ]);
}, STACK_START_MS);
afterAll(async () => {
  await Promise.all([gateway?.close(), nats?.close()]);
  await stack?.stop();
  await link?.close();
});
// Nothing that a test did before is in the way of the next one's sums.
beforeEach(() => {
  sent = new Sent();
  organizationId = systemId();
});

async function publish(deliveries: readonly Delivery[]): Promise<void> {
  for (const [i, { batch, id }] of deliveries.entries())
    await gateway.publish(usageSubject(i % USAGE_PARTITIONS), batch, { id, timeoutMs: 60_000 });
}
/** Of all partitions together. */
async function consumer(): Promise<{ num_pending: number; num_ack_pending: number }> {
  const durables = Array.from({ length: USAGE_PARTITIONS }, (_, i) => `metering-usage-${i}`);
  const infos = await Promise.all(durables.map((durable) => manager.consumers.info('USAGE', durable)));
  const sum = (of: 'num_pending' | 'num_ack_pending') => infos.reduce((all, info) => all + info[of], 0);
  return { num_pending: sum('num_pending'), num_ack_pending: sum('num_ack_pending') };
}
const bookedAll = () => eventually(async () => (await books.requests(organizationId)) >= sent.best.size, HOPELESS_MS);
/** Everything that is in the stream has been handled and acknowledged. */
const drained = () =>
  eventually(async () => {
    const { num_pending: pending, num_ack_pending: open } = await consumer();
    return pending === 0 && open === 0;
  }, HOPELESS_MS);

async function expectExact(): Promise<void> {
  expect(sent.best.size).toBeGreaterThan(0);
  expect(await books.requests(organizationId)).toBe(sent.best.size);
  for (const granularity of ['minute', 'hour', 'day'] as const)
    expect(await books.sums(granularity, organizationId)).toEqual(sent.sums(granularity, organizationId));
  const all = [...sent.sums('day', organizationId).values()];
  const total = (of: 0 | 1 | 2) => String(all.reduce((sum, one) => sum + one[of], 0n));
  expect(await books.keyTotals(organizationId)).toEqual([total(0), total(1), total(2)]);
}

async function metric(pattern: RegExp): Promise<number> {
  const text = await (await fetch(`${stack.urls.metering}/metrics`)).text();
  return Array.from(text.matchAll(pattern), ([, value]) => Number(value)).reduce((sum, value) => sum + value, 0);
}

/** From now on everything that metering says behind its first acknowledgement stays on the way. */
const holdAcks = (): void => void (link.up.holdBefore = ACKS);
/** What is on the way never arrives: the connection breaks. */
const loseThem = (): void => {
  link.up.holdBefore = undefined;
  link.cut();
};

async function dlq(...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(ROOT, 'deploy/dlq.ts'), ...args],
    {
      env: { PATH: process.env['PATH'], NATS_URL: stack.natsUrl('operator') },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output };
}

describe('usage is booked exactly once', () => {
  it(
    'where acknowledgements are lost, and all that was booked is delivered again',
    async () => {
      holdAcks();
      await publish(sent.deliveries(randomFrom(seed), organizationId, 20, 25));
      await bookedAll();
      const { num_ack_pending: open } = await consumer();
      expect(open).toBeGreaterThan(0);
      const before = await metric(/^sluice_metering_duplicates_total\S* (\d+)/gm);
      loseThem();
      await drained();
      expect(await metric(/^sluice_metering_duplicates_total\S* (\d+)/gm)).toBeGreaterThan(before);
      await expectExact();
    },
    HOPELESS_MS,
  );

  it(
    'where metering is killed between the commit and the acknowledgement',
    async () => {
      holdAcks();
      await publish(sent.deliveries(randomFrom(seed + 1), organizationId, 20, 25));
      await bookedAll();
      const { num_ack_pending: open } = await consumer();
      expect(open).toBeGreaterThan(0);
      const restarts = stack.services.metering.restarts;
      stack.services.metering.kill('SIGKILL');
      loseThem();
      await eventually(async () => stack.services.metering.restarts > restarts, HOPELESS_MS);
      await stack.services.metering.ready(HOPELESS_MS);
      await drained();
      // The new process has booked none of it: it was all there.
      expect(await metric(/^sluice_metering_duplicates_total\S* (\d+)/gm)).toBeGreaterThan(0);
      await expectExact();
    },
    HOPELESS_MS,
  );

  it(
    'where PostgreSQL is killed and comes back while batches flow',
    async () => {
      const deliveries = sent.deliveries(randomFrom(seed + 2), organizationId, 40, 25);
      const third = Math.ceil(deliveries.length / 3);
      await publish(deliveries.slice(0, third));
      await eventually(async () => (await books.requests(organizationId)) > 0, HOPELESS_MS);
      const flow = publish(deliveries.slice(third, 2 * third));
      await stack.backing.postgres.kill();
      await flow;
      // Nobody gives up meanwhile: what comes waits.
      await publish(deliveries.slice(2 * third));
      await stack.backing.postgres.start();
      await bookedAll();
      await drained();

      await expectExact();
      expect((await dlq('list', '--consumer', 'metering-usage')).output).toContain('no dead letters');
    },
    HOPELESS_MS,
  );

  it(
    'where something that can’t be booked lies between: it is seen, told, and booked after it was mended',
    async () => {
      const [good, late] = [randomFrom(seed + 3), randomFrom(seed + 4)].map((random) =>
        sent.deliveries(random, organizationId, 4, 10),
      );
      const bad = new Sent().deliveries(randomFrom(seed + 5), organizationId, 1, 5)[0]!;
      const records = bad.batch.records.map((record) => ({ ...record, model: 'm/refused' }));
      const refused = { batch: { ...bad.batch, records }, id: systemId() };
      await books.query(`alter table usage_records add constraint mended_later check (model <> 'm/refused')`);
      await publish([...good!, refused, ...late!]);
      await gateway.publish(usageSubject(0), { junk: true }, { id: systemId(), timeoutMs: 60_000 });
      const dead = () => metric(/^dead_letters_waiting\{.*consumer="metering-usage-.*\} (\d+)/gm);
      await eventually(async () => (await dead()) === 2, HOPELESS_MS);
      await bookedAll();
      await drained();
      await expectExact();

      const listed = await dlq('list', '--consumer', 'metering-usage', '--json');
      const letters = listed.output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { sequence: number; reason: string });
      const of = (reason: string) => String(letters.find((letter) => letter.reason.includes(reason))!.sequence);
      expect(listed.output).not.toContain('m/refused');
      await books.query('alter table usage_records drop constraint mended_later');
      expect(await dlq('redrive', of('refused_by_database'))).toMatchObject({ code: 0 });
      expect(await dlq('drop', of('invalid_usage_batch'), '--reason', 'junk of a test')).toMatchObject({ code: 0 });
      sent.expect(records);
      await bookedAll();
      await eventually(async () => (await dead()) === 0, HOPELESS_MS);
      // Nor does a second sending of the same letter, nor of the same batch, change anything.
      expect(await dlq('redrive', of('refused_by_database'))).toMatchObject({ code: 1 });
      await publish([{ ...refused, id: systemId() }]);
      await drained();
      await expectExact();
    },
    HOPELESS_MS,
  );
});

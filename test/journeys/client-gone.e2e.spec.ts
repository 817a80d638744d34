import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import { Leaver, type How } from '../bench/cancel/leaver.ts';
import { FLOOD_BYTES, TOKENS, WatchedWorker } from '../bench/cancel/watched-worker.ts';
import { Processes } from '../bench/gateway/processes.ts';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

const FLOODS = 50;
const MB = 1e6;

let stack: TestStack;
let worker: WatchedWorker;
let metering: Client;
let key: string;
let id = 0;
const left: Leaver[] = [];
beforeAll(async () => {
  stack = await startTestStack({ workers: 0 });
  worker = await WatchedWorker.start(stack);
  metering = new Client({ connectionString: stack.databases.metering });
  await metering.connect();
  const made = await call<{ data: { apiKey: string } }>(
    stack.baseUrl,
    stack.demo.managementKey,
    'POST',
    '/api/keys/credit',
    { name: 'gone', rpm: 100_000, concurrency: 1_000 },
  );
  key = made.body.data.apiKey;
}, STACK_START_MS);
afterAll(async () => {
  await metering?.end();
  await worker?.stop();
  await stack?.stop();
}, 60_000);
afterEach(async () => {
  await Promise.all(left.splice(0).map((leaver) => leaver.leave('reset')));
});

const clientOf = (way: 'rest' | 'hold' | 'half' | 'flood') => new Leaver(stack, key, worker, way, id++);

interface Recorded {
  request_id: string;
  outcome: string;
  rank: number;
  estimated: boolean;
  input_tokens: string;
  output_tokens: string;
}
/** The newest record, when there is one for every request there was. */
const recorded = () =>
  eventually(async () => {
    const { rows } = await metering.query<Recorded>('select * from usage_records order by ended_at desc, seq desc');
    return rows.length === id && rows[0];
  });

describe.each(['close', 'half', 'reset'] satisfies How[])('a client that goes away: %s', (how) => {
  it('in the middle of a stream ends its request at the worker, and what was generated is metered exactly', async () => {
    const leaver = clientOf('rest');
    await leaver.midway();
    const { requestId, tokens } = await leaver.leave(how);
    expect(tokens).toBe(TOKENS);
    expect(await recorded()).toMatchObject({
      request_id: requestId,
      outcome: 'aborted',
      estimated: false,
      input_tokens: '7',
      output_tokens: String(TOKENS),
    });
  });

  it.each(['hold', 'half'] as const)(
    'before anything came of its answer (%s) ends it too, and pays nothing',
    async (way) => {
      const leaver = clientOf(way);
      await leaver.midway();
      await leaver.leave(how);
      expect(await recorded()).toMatchObject({ outcome: 'aborted', input_tokens: '0', output_tokens: '0' });
    },
  );

  it('without having read its stream ends it too, and pays for what came as far as the gateway', async () => {
    const leaver = clientOf('flood');
    await leaver.midway();
    await leaver.leave(how);
    const { outcome, output_tokens: tokens } = await recorded();
    expect(outcome).toBe('aborted');
    expect(Number(tokens)).toBeGreaterThan(0);
    expect(Number(tokens)).toBeLessThanOrEqual(leaver.watched.tokens);
  });
});

describe('clients that read nothing of a flood', () => {
  const memory = () => {
    const table = new Processes();
    return [stack.services.gateway, stack.services.router].map(({ pid }) => table.usage(pid!).rss / MB);
  };

  it('slow their workers down, and nothing is kept of it here', async () => {
    const before = memory();
    for (let i = 0; i < FLOODS; i++) left.push(clientOf('flood'));
    await Promise.all(left.map((leaver) => leaver.midway()));
    const grown = memory().map((now, i) => now - before[i]!);
    const sent = left.map(({ watched }) => watched.sent);
    // What the kernel has room for on three connections, and not what there is.
    expect(Math.max(...sent)).toBeLessThan(FLOOD_BYTES / 4);
    // 10 GB are on offer. A process that is warm grows by its buffers alone: some hundred kB each, and what garbage there is.
    for (const growth of grown) expect(growth).toBeLessThan(FLOODS * 2.5);
  });
});

import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { generationSchema, meteredRequestSchema } from '@sluice/contracts/metering';
import { aUsageBatch as batch, aUsageRecord as record } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { UsageStore } from '../usage/usage.store.js';
import { Generations } from './generations.service.js';

const backing = withBacking(['postgres']);
let orm: MikroORM;
let store: UsageStore;
let generations: Generations;
beforeAll(async () => {
  const { url } = await backing.database('metering_generations');
  const options = meteringDatabase(url);
  await migrate(options);
  orm = await MikroORM.init(options);
  store = new UsageStore(orm.em);
  generations = new Generations(orm.em);
  await store.take(batch([record()]));
});
afterAll(() => orm.close(true));

describe('one generation', () => {
  it('is told with its tokens and its cost to the last pico-dollar', async () => {
    const found = await generations.find('org-1', 'key-1', 'req-1');
    expect(generationSchema.parse(found)).toEqual({
      id: 'req-1',
      model: 'sim/small',
      project: 'default',
      workload: 'chat',
      endpoint: 'chat/completions',
      stream: false,
      outcome: 'ok',
      inputTokens: 100,
      cachedInputTokens: 20,
      outputTokens: 30,
      totalTokens: 130,
      audioMs: 0,
      reasoningTokens: 0,
      embeddings: 0,
      estimated: false,
      cost: '0.00000000027',
      currency: 'USD',
      priceVersion: 'p1',
      startedAt: '2026-11-20T10:00:00.000Z',
      endedAt: '2026-11-20T10:00:59.999Z',
      ttftMs: 12.5,
    });
  });

  it('is told with what was thought of its output, and its vectors', async () => {
    await store.take(batch([record({ requestId: 'req-9', reasoningTokens: '7', embeddings: '3', seq: 9 })]));
    expect(await generations.find('org-1', 'key-1', 'req-9')).toMatchObject({ reasoningTokens: 7, embeddings: 3 });
    expect(await generations.explain('org-1', null, 'req-9')).toMatchObject({ reasoningTokens: 7, embeddings: 3 });
  });

  it.each([
    ['another key of the organization', 'org-1', 'key-2', 'req-1'],
    ['another organization, even with a key of the same id', 'org-2', 'key-1', 'req-1'],
    ['nobody, as it never was', 'org-1', 'key-1', 'req-2'],
  ])('is shown to its own key alone: not to %s', async (_whom, organizationId, keyId, requestId) => {
    expect(await generations.find(organizationId, keyId, requestId)).toBeUndefined();
  });

  it('is what the best record says', async () => {
    await store.take(batch([record({ requestId: 'req-3', rank: 2, estimated: true, seq: 1 })]));
    await store.take(batch([record({ requestId: 'req-3', inputTokens: '120', seq: 2 })]));
    expect(await generations.find('org-1', 'key-1', 'req-3')).toMatchObject({ inputTokens: 120, estimated: false });
  });
});

describe('a request, explained', () => {
  it('has its key, its prices per unit, its worker and its attempt beside what it took', async () => {
    const audio = { prices: { input: '2', cachedInput: '1', output: '3', audioSecond: '100000000' }, audioMs: '1500' };
    await store.take(batch([record({ requestId: 'req-4', ...audio, outcome: 'aborted', attempt: 2, seq: 3 })]));
    const found = meteredRequestSchema.parse(await generations.explain('org-1', null, 'req-4'));
    expect(found).toEqual({
      ...(await generations.find('org-1', 'key-1', 'req-4')),
      keyId: 'key-1',
      prices: {
        input: '0.000000000002',
        cachedInput: '0.000000000001',
        output: '0.000000000003',
        audioSecond: '0.0001',
      },
      worker: 'w1',
      attempt: 2,
    });
    expect([found.outcome, found.audioMs, found.cost]).toEqual(['aborted', 1500, '0.00015000027']);
  });

  it.each([
    ['a manager of its project', 'org-1', 'default', true],
    ['no manager of another project', 'org-1', 'blue', false],
    ['no other organization', 'org-2', null, false],
    ['no other organization with a project of the same name', 'org-2', 'default', false],
  ])('is shown to %s', async (_whom, organizationId, project, shown) => {
    expect((await generations.explain(organizationId, project, 'req-1')) !== undefined).toBe(shown);
  });
});

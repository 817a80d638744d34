import { beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { refusalsRequestSchema, type Refusal } from '@sluice/contracts/refusals';
import { systemId } from '@sluice/primitives/id';
import type { ServiceCall, ServiceClient } from '@sluice/service-kit';
import { manualClock } from '@sluice/testing';
import { register } from 'prom-client';
import type { KnownKey } from '../keys/known-key.js';
import type { Counted } from './refusal-counts.js';
import { Refusals } from './refusals.service.js';

const known = { keyId: 'k1', organizationId: 'o1', project: 'p1' } as unknown as KnownKey;
const keys: Record<string, KnownKey> = {
  known,
  operator: { keyId: 'op', organizationId: null, project: null } as unknown as KnownKey,
};
let told: Refusal[][];
let added: Counted[];
let answer: () => void;
let refusals: Refusals;
beforeEach(() => {
  register.clear();
  told = [];
  added = [];
  answer = () => {};
  const auth = {
    tell: async ({ body }: ServiceCall) => {
      told.push([...refusalsRequestSchema.parse(body).refusals]);
      answer();
    },
    close: async () => {},
  } as unknown as ServiceClient;
  refusals = new Refusals(({ 'x-api-key': key }) => keys[String(key)], auth, manualClock(), {
    add: (counted) => void added.push(counted),
  });
});

const LIMITED = new Rejected('rate_limit_exceeded');
const note = (key: string, model?: string) => {
  const request = { id: systemId(), headers: { 'x-api-key': key } };
  refusals.note(request, LIMITED, { operation: 'POST /v1/chat/completions', model });
  return request.id;
};
async function counted(explanation: string): Promise<number> {
  const metric = await register.getSingleMetric('gateway_refusals_total')!.get();
  return metric.values.find(({ labels }) => labels['explanation'] === explanation)?.value ?? 0;
}

describe('refused requests', () => {
  it('of a known key are told to auth, all that it takes to explain them and nothing of the body', async () => {
    const requestId = note('known', 'm'.repeat(1_000));
    await refusals.flush();
    expect(told).toEqual([
      [
        {
          requestId,
          organizationId: 'o1',
          project: 'p1',
          keyId: 'k1',
          code: 'rate_limit_exceeded',
          status: 429,
          message: LIMITED.message,
          operation: 'POST /v1/chat/completions',
          model: 'm'.repeat(256),
          at: expect.any(String),
        },
      ],
    ]);
  });

  it('of a known key are all counted, also those that are too many to be explained', () => {
    for (let i = 0; i < 25; i++) note('known', 'm');
    note('known');
    expect(added.length).toBe(26);
    expect(added[0]).toEqual({ organizationId: 'o1', project: 'p1', keyId: 'k1', model: 'm', code: LIMITED.code });
    expect(added.at(-1)!.model).toBe('');
    note('junk');
    note('operator');
    expect(added.length).toBe(26);
  });

  it('of nobody that is known, and of operators, are counted only', async () => {
    note('junk');
    note('operator');
    await refusals.flush();
    expect(told).toEqual([]);
    expect([await counted('unidentified'), await counted('operator')]).toEqual([1, 1]);
  });

  it('beyond the bound are dropped, and counted', async () => {
    for (let i = 0; i < 25; i++) note('known');
    await refusals.flush();
    expect([told[0]!.length, await counted('kept'), await counted('dropped')]).toEqual([20, 20, 5]);
  });

  it('are sent again when auth is away, three times at most: memory stays bounded', async () => {
    answer = () => {
      throw new Rejected('unavailable');
    };
    const requestId = note('known');
    for (let i = 0; i < 3; i++) await refusals.flush();
    expect(told.map(([refusal]) => refusal!.requestId)).toEqual([requestId, requestId, requestId]);
    expect(await counted('lost')).toBe(1);
    answer = () => {};
    const next = note('known');
    await refusals.flush();
    expect(told.at(-1)!.map((refusal) => refusal.requestId)).toEqual([next]);
  });

  it('that auth refuses are not sent again', async () => {
    answer = () => {
      throw new Rejected('invalid_request');
    };
    note('known');
    await refusals.flush();
    await refusals.flush();
    expect(told).toHaveLength(1);
  });

  it('tell no text that a database cannot keep: it would take the others along', async () => {
    const asked = { id: systemId(), headers: { 'x-api-key': 'known' } };
    refusals.note(asked, new Rejected('model_not_found', 'No \0.'), { operation: 'POST /v1/x', model: 'a\0b\ud800' });
    await refusals.flush();
    expect(told[0]![0]).toMatchObject({ message: 'No \uFFFD.', model: 'a\uFFFDb\uFFFD' });
  });

  it('that wait when the process ends are told before', async () => {
    note('known');
    await refusals.onApplicationShutdown();
    expect(told).toHaveLength(1);
  });
});

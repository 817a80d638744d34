import { describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import { aUsageBatch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import { systemId } from '@sluice/primitives/id';
import { billingSuite, manager, operator, PRICES, until } from '../billing-suite.fixture.js';
import { ChargesStore } from '../charges/charges.store.js';
import type { Statement } from './statements.store.js';

const billing = billingSuite();
const { call, organization, prices } = billing;

const month = new Date().toISOString().slice(0, 7);
/** Costs 0.00027 USD. */
const record = async (change: Partial<UsageRecord>): Promise<UsageRecord> =>
  aUsageRecord({
    requestId: systemId(),
    priceVersion: (await prices()).find(({ model }) => model === 'sim/small')!.version,
    prices: PRICES,
    endedAt: new Date().toISOString(),
    ...change,
  });
const charge = async (...records: UsageRecord[]) =>
  billing
    .app()
    .get(ChargesStore)
    .take(aUsageBatch(inJournal(records), systemId()));
const statement = async (organizationId: string, of = month) =>
  (await call<Statement>('GET', `/api/billing/statements/${of}`, { as: manager(organizationId) })).body.data;
const tell = async (
  event: 'issued' | 'updated',
  organizationId: string,
  keyId: string,
  tags: string[],
  time: string,
) => {
  const type = `sluice.auth.key.${event}.v1`;
  const fields = { id: systemId(), source: '/sluice/auth', subject: keyId, time, correlationId: 'r' };
  const key = { organizationId, project: null, keyId, kind: 'credit', name: 'k', keyPrefix: 'sk_live_x' };
  const data = { ...key, tags, ...(event === 'issued' ? { createdAt: time } : { changed: ['tags'], updatedAt: time }) };
  await billing.messaging().publish(eventSubject(type, organizationId, keyId), wrap(type, fields, data), {
    id: fields.id,
    timeoutMs: 20_000,
  });
};

describe('GET /api/billing/statements/:month', () => {
  it('says what was spent by project and by tag, and what moved beside requests', async () => {
    const organizationId = await organization('25');
    const keys = { two: systemId(), one: systemId(), none: systemId() };
    await tell('issued', organizationId, keys.one, ['old'], '2026-01-01T00:00:00.000Z');
    await tell('updated', organizationId, keys.one, ['batch'], '2026-01-02T00:00:00.000Z');
    await tell('issued', organizationId, keys.two, ['batch', 'team-a'], '2026-01-01T00:00:00.000Z');
    const of = { organizationId };
    await charge(
      await record({ ...of, keyId: keys.one, project: 'web' }),
      await record({ ...of, keyId: keys.two, project: 'web' }),
      await record({ ...of, keyId: keys.two, project: 'jobs' }),
      await record({ ...of, keyId: keys.none, project: 'jobs' }),
      await record({ ...of, keyId: keys.none, project: 'jobs', endedAt: '2001-02-03T00:00:00Z' }),
    );
    const refund = { organizationId, amount: '1.25', reason: 'x' };
    await call('POST', '/api/operator/refunds', { as: operator, body: refund, key: systemId() });
    const expected = {
      month,
      currency: 'USD',
      spent: '0.00108',
      requests: 4,
      projects: expect.arrayContaining([
        { project: 'web', requests: 2, spent: '0.00054' },
        { project: 'jobs', requests: 2, spent: '0.00054' },
      ]),
      tags: [
        { tag: 'batch', requests: 3, spent: '0.00081' },
        { tag: 'team-a', requests: 2, spent: '0.00054' },
        { tag: null, requests: 1, spent: '0.00027' },
      ],
      movements: [
        { kind: 'credit', count: 1, amount: '25.00' },
        { kind: 'refund', count: 1, amount: '-1.25' },
      ],
    };
    await until('the newest tags', async () => (await statement(organizationId)).tags.length === 3);
    await until('no old tags', async () => !JSON.stringify(await statement(organizationId)).includes('old'));
    expect(await statement(organizationId)).toEqual(expected);
    expect(await statement(organizationId, '2001-02')).toMatchObject({ requests: 1, spent: '0.00027', movements: [] });
  });

  it('moves what a better record says to its month, and leaves nothing of it behind', async () => {
    const organizationId = await organization('25');
    const first = await record({ organizationId, project: 'web', rank: 2, endedAt: '2001-03-31T23:59:59.999Z' });
    await charge(first);
    await charge({ ...first, rank: 4, outputTokens: '0', endedAt: '2001-04-01T00:00:00Z' });
    expect(await statement(organizationId, '2001-04')).toMatchObject({ requests: 1, spent: '0.00018' });
    expect(await statement(organizationId, '2001-03')).toMatchObject({
      requests: 0,
      spent: '0.00',
      projects: [],
      tags: [],
    });
  });

  it.each(['2026-13', '2026', '2026-11-01', 'x'])('names a bad month: %s', async (bad) => {
    const answer = await call('GET', `/api/billing/statements/${bad}`, { as: manager(await organization()) });
    expect(answer).toMatchObject({ status: 400, body: { error: { code: 'invalid_request', param: 'month' } } });
  });

  it('is the whole organization’s: not for a key of one project', async () => {
    const as = { ...manager(await organization()), project: 'web' };
    expect(await call('GET', `/api/billing/statements/${month}`, { as })).toMatchObject({
      status: 403,
      body: { error: { code: 'project_scope_mismatch' } },
    });
  });
});

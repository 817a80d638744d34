import { describe, expect, it } from '@jest/globals';
import { creditGrantedV1 } from '@sluice/contracts/billing';
import { systemId } from '@sluice/primitives/id';
import { billingSuite, manager, until } from '../billing-suite.fixture.js';

const { grant, organization, published, status } = billingSuite();

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

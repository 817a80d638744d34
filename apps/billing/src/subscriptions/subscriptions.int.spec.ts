import { describe, expect, it } from '@jest/globals';
import { systemId } from '@sluice/primitives/id';
import { manager, until } from '../billing-suite.fixture.js';
import { refused, subscriptionsSuite } from './subscriptions-suite.fixture.js';
import { SubscriptionsService } from './subscriptions.service.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const billing = subscriptionsSuite('2027-01-31T12:00:00.000Z');
const { aPool, act, call, clock, freeOf, listed, organization, rows, status, subscribe, told, toldOf, work } = billing;

describe('POST /api/pools/:id/subscribe', () => {
  it('pays each period from credit, takes the seats, and tells everybody who asks', async () => {
    const organizationId = await organization('100');
    const poolId = await aPool();
    const { status: answered, body } = await subscribe(organizationId, poolId, { periods: 2, autoRenew: true });
    expect(answered).toBe(201);
    expect(body.data).toMatchObject({
      poolId,
      models: ['sim/small'],
      blocks: ['europe'],
      hours: [8, 9, 10, 11, 12, 13, 14, 15],
      status: 'active',
      autoRenew: true,
      startedAt: '2027-01-31T12:00:00.000Z',

      currentPeriodStart: '2027-01-31T12:00:00.000Z',
      currentPeriodEnd: '2027-02-28T12:00:00.000Z',

      paidUntil: '2027-03-31T12:00:00.000Z',
      goodUntil: '2027-04-01T12:00:00.000Z',

      priceOfPeriod: '2.24',
      currency: 'USD',
    });
    // 28 and 31 days of 8 hours.
    expect(await status(organizationId)).toMatchObject({
      balance: '95.28',
      subscriptions: [
        {
          id: body.data.id,
          poolId,
          status: 'active',
          blocks: ['europe'],
          autoRenew: true,
          currentPeriodStart: '2027-01-31T12:00:00.000Z',
          currentPeriodEnd: '2027-02-28T12:00:00.000Z',
        },
      ],
    });
    const { data } = (
      await call<{ kind: string; entries: object[] }[]>('GET', '/api/billing/ledger', {
        as: manager(organizationId),
      })
    ).body;
    expect(data.map(({ kind }) => kind).toSorted()).toEqual(['credit', 'subscription', 'subscription']);
    expect(data.map(({ entries }) => entries)).toContainEqual([
      { account: 'available', amount: '-2.24' },
      { account: 'revenue:subscriptions', amount: '2.24' },
    ]);
    expect(await freeOf(poolId)).toEqual({ asia: 2, europe: 1, americas: 2 });
    expect(await listed(organizationId)).toEqual([body.data]);
    const contract = await told(body.data.id, 'started');
    expect(contract).toMatchObject({ organizationId, version: 1, hours: body.data.hours });
    const path = `/internal/subscriptions/${organizationId}`;
    expect(await billing.statusFor('auth', path)).toBe(200);
    expect(await billing.statusFor('gateway', path)).toBe(403);
    expect(await billing.statusFor('auth', `${path}/${body.data.id}`)).toBe(200);
    expect(await billing.statusFor('auth', `/internal/subscriptions/other/${body.data.id}`)).toBe(404);
  });

  it('does it once for each Idempotency-Key, also when it is sent many times at once', async () => {
    const organizationId = await organization('100');
    const poolId = await aPool();
    const key = systemId();
    const answers = await Promise.all(Array.from({ length: 6 }, () => subscribe(organizationId, poolId, {}, key)));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(await subscribe(organizationId, poolId, { blocks: ['asia'] }, key)).toMatchObject(refused(409, 'conflict'));
    expect(await status(organizationId)).toMatchObject({ balance: '97.76' });
    expect(await freeOf(poolId)).toEqual({ asia: 2, europe: 1, americas: 2 });
  });

  it('never gives a seat twice, whoever asks at the same time, and takes no money of those who get none', async () => {
    const poolId = await aPool({ capacity: 3 });
    const organizations = await Promise.all(Array.from({ length: 9 }, () => organization('10')));
    const answers = await Promise.all(
      organizations.map((id, n) => subscribe(id, poolId, { blocks: n % 2 ? ['asia', 'europe'] : ['europe'] })),
    );
    expect(answers.map((answer) => answer.status).sort((a, b) => a - b)).toEqual([
      201, 201, 201, 409, 409, 409, 409, 409, 409,
    ]);
    expect(answers.find((answer) => answer.status === 409)).toMatchObject({
      body: { error: { code: 'conflict', param: 'blocks' } },
    });
    for (const [n, id] of organizations.entries()) {
      const paid = answers[n]!.status === 201;
      expect({ paid, whole: (await status(id))['balance'] === '10.00' }).toEqual({ paid, whole: !paid });
    }
    expect((await freeOf(poolId))['europe']).toBe(0);
    const again = `insert into reserved_seats select s.subscription_id, pool_id, hour, seat, during from reserved_seats r,
      (select subscription_id from subscriptions limit 1) s where pool_id = '${poolId}' limit 1`;
    await expect(rows(again)).rejects.toThrow(/one_subscription_in_a_seat/);
    const beyond = `insert into reserved_seats select subscription_id, pool_id, hour, 3, during from reserved_seats
      where pool_id = '${poolId}' limit 1`;
    await expect(rows(beyond)).rejects.toThrow(/foreign key/);
  });

  it('says what is missing, and changes nothing', async () => {
    const organizationId = await organization('2.23');
    const poolId = await aPool();
    expect(await subscribe(organizationId, poolId)).toMatchObject({
      status: 402,
      body: { error: { code: 'insufficient_credit', message: expect.stringContaining('costs 2.24 USD') } },
    });
    expect(await subscribe(organizationId, poolId, { blocks: ['mars'] })).toMatchObject(
      refused(400, 'invalid_request'),
    );
    expect(await subscribe(organizationId, systemId())).toMatchObject(refused(404, 'not_found'));
    expect(await freeOf(poolId)).toEqual({ asia: 2, europe: 2, americas: 2 });
    expect(await listed(organizationId)).toEqual([]);
    expect(await status(organizationId)).toMatchObject({ balance: '2.23', subscriptions: [] });
  });

  it.each([
    ['blocks', { blocks: [] }],
    ['periods', { periods: 0 }],
    ['periods', { periods: 13 }],
    ['autoRenew', { autoRenew: 'yes' }],
    ['colour', { colour: 'red' }],
    ['Idempotency-Key', {}, 'a b'],
  ])('names the bad %s in %j', async (param, change, key: string | undefined = 'k') => {
    expect(await subscribe('o', systemId(), change, key)).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request', param } },
    });
  });

  it('is for a whole organization, and each sees and changes its own only', async () => {
    const [mine, theirs] = [await organization('10'), await organization('10')];
    const { data } = (await subscribe(mine, await aPool())).body;
    expect(await act(theirs, data.id, 'cancel')).toMatchObject(refused(404, 'not_found'));
    expect(await act(theirs, data.id, 'renew')).toMatchObject(refused(404, 'not_found'));
    expect(await listed(theirs)).toEqual([]);
    const bound = { ...manager(mine), project: 'p' };
    for (const path of ['/api/subscriptions', '/api/pools']) {
      expect(await call('GET', path, { as: bound })).toMatchObject(refused(403, 'project_scope_mismatch'));
    }
  });
});

describe('renewing and cancelling', () => {
  it('renews before the end behind what is paid, once for each key; after it anew, if a seat is free', async () => {
    const organizationId = await organization('100');
    const poolId = await aPool({ capacity: 1 });
    const { id } = (await subscribe(organizationId, poolId)).body.data;
    const first = await act(organizationId, id, 'renew', { periods: 1 }, 'first');
    expect(first.body.data).toMatchObject({ status: 'active' });
    expect(await act(organizationId, id, 'renew', { periods: 1 }, 'first')).toEqual(first);
    expect(await act(organizationId, id, 'renew', { periods: 2 }, 'first')).toMatchObject(refused(409, 'conflict'));
    const end = Date.parse(first.body.data.goodUntil);
    clock.advance(end - clock.now());
    await work();
    expect((await listed(organizationId))[0]).toMatchObject({ status: 'ended' });
    const other = (await subscribe(organizationId, poolId)).body.data;
    expect(await act(organizationId, id, 'renew')).toMatchObject(refused(409, 'conflict'));
    await act(organizationId, other.id, 'cancel');
    clock.advance(Date.parse(other.currentPeriodEnd) - clock.now());
    const again = await act(organizationId, id, 'renew');
    expect(again).toMatchObject({ status: 200, body: { data: { status: 'active' } } });
    expect(Date.parse(again.body.data.currentPeriodStart)).toBe(clock.now());
    const last = await told(id, 'started', 'renewed', 'renewed', 'expired', 'renewed');
    expect(last).toMatchObject({ status: 'active', version: 5 });
  });

  it('is past due where it can’t be paid, for 24 h, and made good by a top-up in them', async () => {
    const organizationId = await organization('2.80');
    const { id, currentPeriodEnd } = (await subscribe(organizationId, await aPool(), { autoRenew: true })).body.data;
    clock.advance(Date.parse(currentPeriodEnd) - clock.now());
    await Promise.all([work(), work()]);
    expect((await status(organizationId))['subscriptions']).toMatchObject([{ id, status: 'past_due' }]);
    const failed = await told(id, 'started', 'renewal_failed');
    expect(Date.parse(failed.goodUntil)).toBe(clock.now() + DAY);
    await billing.grant({ organizationId, amount: '10', reason: 'top-up' });
    clock.advance(HOUR);
    await Promise.all([work(), work()]);
    const renewed = await told(id, 'started', 'renewal_failed', 'renewed');
    expect(renewed).toMatchObject({ status: 'active', currentPeriodStart: currentPeriodEnd });
  });

  it('ends what is not paid in 24 h, and gives its seats to others', async () => {
    const organizationId = await organization('2.80');
    const poolId = await aPool({ capacity: 1 });
    const { id, currentPeriodEnd } = (await subscribe(organizationId, poolId, { autoRenew: true })).body.data;
    clock.advance(Date.parse(currentPeriodEnd) - clock.now());
    await work();
    clock.advance(DAY - 1);
    await work();
    expect(await freeOf(poolId)).toMatchObject({ europe: 0 });
    clock.advance(1);
    await work();
    expect(await freeOf(poolId)).toMatchObject({ europe: 1 });
    await told(id, 'started', 'renewal_failed', 'expired');
    expect((await status(organizationId))['subscriptions']).toEqual([]);
  });

  it('cancels to the end of what is paid: seats, list and event say so', async () => {
    const organizationId = await organization('10');
    const poolId = await aPool({ capacity: 1 });
    const { id, currentPeriodEnd } = (await subscribe(organizationId, poolId, { autoRenew: true })).body.data;
    const cancelled = await act(organizationId, id, 'cancel');
    expect(cancelled.body.data).toMatchObject({ status: 'cancelled', autoRenew: false, goodUntil: currentPeriodEnd });
    expect(await act(organizationId, id, 'cancel')).toEqual(cancelled);
    clock.advance(Date.parse(currentPeriodEnd) - clock.now());
    expect(await freeOf(poolId)).toMatchObject({ europe: 1 });
    await work();
    await told(id, 'started', 'cancelled', 'expired');
    expect(await act(organizationId, id, 'cancel')).toMatchObject(refused(409, 'conflict'));
  });

  it('goes on with the others where one can’t be decided', async () => {
    const organizationId = await organization('100');
    const ids: string[] = [];
    for (let n = 0; n < 2; n += 1) ids.push((await subscribe(organizationId, await aPool())).body.data.id);
    const service = billing.app().get(SubscriptionsService);
    const catchUp = service.catchUp.bind(service);
    service.catchUp = (id, by) => (id === ids[0] ? Promise.reject(new Error('broken')) : catchUp(id, by));
    clock.advance(31 * DAY);
    await work();
    const states = (await listed(organizationId)).map(({ id, status: state }) => [id, state] as const);
    expect(new Map(states)).toEqual(
      new Map([
        [ids[0], 'active'],
        [ids[1], 'ended'],
      ]),
    );
    service.catchUp = catchUp;
    await work();
    expect((await listed(organizationId)).map(({ status: state }) => state)).toEqual(['ended', 'ended']);
  });
});

describe('a year and a leap year', () => {
  it('of subscriptions, day by day, by two processes: each period once, in its month, from the 31st to the 31st', async () => {
    clock.advance(Date.parse('2027-10-31T06:00:00.000Z') - clock.now());
    const organizationId = await organization('1000');
    const poolId = await aPool({ capacity: 5 });
    const { id } = (await subscribe(organizationId, poolId, { autoRenew: true })).body.data;
    const { id: other } = (await subscribe(organizationId, poolId, { blocks: ['asia'], periods: 3 })).body.data;
    for (let day = 0; day < 366; day += 1) {
      clock.advance(DAY);
      await Promise.all([work(), work()]);
    }
    const periods = await rows<{ from: string; price: string }>(`
      select to_char(lower(during) at time zone 'UTC', 'YYYY-MM-DD HH24') as from, price::text from subscription_periods
      where subscription_id = '${id}' order by period`);
    expect(periods.map(({ from }) => from)).toEqual([
      '2027-10-31 06',
      '2027-11-30 06',
      '2027-12-31 06',
      '2028-01-31 06',
      '2028-02-29 06',
      '2028-03-31 06',
      '2028-04-30 06',
      '2028-05-31 06',
      '2028-06-30 06',
      '2028-07-31 06',
      '2028-08-31 06',
      '2028-09-30 06',
      '2028-10-31 06',
    ]);
    const days = periods.map(({ price }) => BigInt(price) / (8n * 10_000_000_000n));
    expect(days.join()).toBe('30,31,31,29,31,30,31,30,31,31,30,31,30');
    expect((await listed(organizationId)).find((one) => one.id === other)).toMatchObject({ status: 'ended' });
    // 396 days of the one and 92 of the other, 8 hours each at 0.01 USD.
    expect(await status(organizationId)).toMatchObject({ balance: '960.96' });
    await until('all events', () => toldOf(id).length === 13);
    expect(toldOf(id).map(({ data }) => data.version)).toEqual(Array.from({ length: 13 }, (_, n) => n + 1));
  }, 120_000);
});

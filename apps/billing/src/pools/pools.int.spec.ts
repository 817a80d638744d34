import { describe, expect, it } from '@jest/globals';
import { manager, operator } from '../billing-suite.fixture.js';
import { poolBody, refused, subscriptionsSuite } from '../subscriptions/subscriptions-suite.fixture.js';

const { aPool, call, freeOf, makePool } = subscriptionsSuite('2027-01-31T12:00:00.000Z');

describe('pools', () => {
  it('are made by an operator once by name, with eight hours in each of three blocks where nothing else is said', async () => {
    const body = poolBody();
    const made = await makePool(body);
    expect(made).toMatchObject({ status: 200, body: { data: { pricePerBlockHour: '0.01', currency: 'USD' } } });
    expect(await makePool(body)).toEqual(made);
    expect(await makePool({ ...body, capacity: 3 })).toMatchObject(refused(409, 'conflict'));
    expect(await freeOf(made.body.data.id)).toEqual({ asia: 2, europe: 2, americas: 2 });
    expect(await makePool(poolBody(), manager('o'))).toMatchObject(refused(403, 'scope_insufficient'));
  });

  it('have seats for each hour of the day, and blocks of any hours', async () => {
    const capacity = Array.from({ length: 24 }, (_, hour) => (hour < 12 ? 1 : 3));
    const blocks = [
      { name: 'noon', hours: [13, 11] },
      { name: 'late', hours: [22, 23] },
    ];
    const id = await aPool({ capacity, blocks });
    expect(await freeOf(id)).toEqual({ noon: 1, late: 3 });
    const { data } = (await call<{ id: string; capacity: number[] }[]>('GET', '/api/operator/pools', { as: operator }))
      .body;
    expect(data.find((pool) => pool.id === id)!.capacity).toEqual(capacity);
  });

  it.each([
    ['name', { name: 'Big' }],
    ['models', { models: [] }],
    ['models', { models: ['a', 'a'] }],
    ['pricePerBlockHour', { pricePerBlockHour: '0' }],
    ['pricePerBlockHour', { pricePerBlockHour: 1 }],
    ['pricePerBlockHour', { pricePerBlockHour: '-1' }],
    ['capacity', { capacity: -1 }],
    ['capacity', { capacity: 1_001 }],
    ['capacity', { capacity: [1, 2] }],
    ['capacity', { capacity: 0 }],
    ['blocks.0.hours.0', { blocks: [{ name: 'x', hours: [24] }] }],
    ['blocks.0.hours', { blocks: [{ name: 'x', hours: [] }] }],
    ['blocks.0.hours', { blocks: [{ name: 'x', hours: [1, 1] }] }],
    [
      'blocks',
      {
        blocks: [
          { name: 'x', hours: [1] },
          { name: 'x', hours: [2] },
        ],
      },
    ],
    ['colour', { colour: 'red' }],
  ])('are refused with a bad %s, by its name: %j', async (param, change) => {
    expect(await makePool(poolBody(change))).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request', param } },
    });
  });
});

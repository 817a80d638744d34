import { SUBSCRIPTION_EVENTS, type Subscription, type SubscriptionEvent } from '@sluice/contracts/billing';
import { expect } from '@jest/globals';
import { systemId } from '@sluice/primitives/id';
import { manualClock } from '@sluice/testing';
import { billingSuite, manager, operator, until } from '../billing-suite.fixture.js';
import { DueSubscriptions } from './due.worker.js';

export interface Shown extends Subscription {
  readonly blocks: string[];
  readonly paidUntil: string;
  readonly priceOfPeriod: string;
}
interface ShownPool {
  readonly id: string;
  readonly blocks: { name: string; hours: number[]; free: number }[];
}

/** Two seats in each hour, at a cent. */
export const poolBody = (change: Record<string, unknown> = {}) => ({
  name: `pool-${systemId()}`,
  models: ['sim/small'],
  pricePerBlockHour: '0.01',
  capacity: 2,
  ...change,
});

/** The whole service with a clock that stands still, and what is done to pools and subscriptions. */
export function subscriptionsSuite(start: string) {
  const clock = manualClock(start);
  const billing = billingSuite(clock);
  const { call, published } = billing;
  const makePool = (body: unknown, as = operator) => call<ShownPool>('POST', '/api/operator/pools', { as, body });
  const toldOf = (id: string) =>
    published
      .filter(({ subject }) => subject.includes('.subscription.') && subject.endsWith(`.${id}`))
      .map(({ subject, data }) => {
        const event = subject.split('.')[3] as SubscriptionEvent;
        return { event, data: SUBSCRIPTION_EVENTS[event].parse(JSON.parse(new TextDecoder().decode(data))).data };
      });
  return {
    ...billing,
    clock,
    makePool,
    toldOf,
    aPool: async (change: Record<string, unknown> = {}) => (await makePool(poolBody(change))).body.data.id,
    subscribe: (organizationId: string, poolId: string, body: object = {}, key: string | undefined = systemId()) =>
      call<Shown>('POST', `/api/pools/${poolId}/subscribe`, {
        as: manager(organizationId),
        body: { blocks: ['europe'], ...body },
        key,
      }),
    act: (organizationId: string, id: string, what: 'renew' | 'cancel', body?: object, key = systemId()) =>
      call<Shown>('POST', `/api/subscriptions/${id}/${what}`, { as: manager(organizationId), body, key }),
    listed: async (organizationId: string) =>
      (await call<Shown[]>('GET', '/api/subscriptions', { as: manager(organizationId) })).body.data,
    /** Free seats of each block. */
    freeOf: async (poolId: string) => {
      const { data } = (await call<ShownPool[]>('GET', '/api/pools', { as: manager('o') })).body;
      return Object.fromEntries(data.find(({ id }) => id === poolId)!.blocks.map(({ name, free }) => [name, free]));
    },
    /** What the job does, now. */
    work: () => billing.app().get(DueSubscriptions).work(),
    /** Waits for these events, and no others; the last one's data. */
    told: async (id: string, ...events: SubscriptionEvent[]) => {
      await until(`${events.join(', ')} of ${id}`, () => toldOf(id).length >= events.length);
      expect(toldOf(id).map(({ event }) => event)).toEqual(events);
      return toldOf(id).at(-1)!.data;
    },
  };
}

export const refused = (status: number, code: string) => ({ status, body: { error: { code } } });

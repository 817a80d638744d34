import { MikroORM } from '@mikro-orm/postgresql';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { migrate, OutboxRelay } from '@sluice/event-store';
import { connect } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { serviceKeys, ServiceTokens, type ServiceCall, type ServiceClient } from '@sluice/service-kit';
import { manualClock, type SuiteBacking } from '@sluice/testing';
import { authDatabase } from '../database.js';
import { MadeUpGateways, PATIENT } from '../gateways/gateways.fixture.js';
import { InForceService } from '../gateways/in-force.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { KeysService } from './keys.service.js';

export const anActor = (change: Partial<Actor> = {}): Actor => ({
  kind: 'management',
  keyId: 'mk',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId: 'o1',
  project: null,
  requestId: 'r1',
  address: '192.0.2.1',
  ...change,
});

/** What billing answers; a path that is not here is refused with `not_found`. */
export type Billing = Record<string, object>;

/** The services of auth that keys take, on real servers; billing is made up, and its answers can be changed. */
export async function keysSuite(backing: SuiteBacking<'postgres' | 'nats'>) {
  const options = authDatabase((await backing.database('auth')).url);
  await migrate(options);
  const orm = await MikroORM.init(options);
  const messaging = connect({ url: backing().nats.url, name: 'keys-test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  const relay = new OutboxRelay({
    sweepMs: 50,
    em: orm.em,
    publish: async ({ id, subject, payload, headers }) =>
      void (await messaging.publish(subject, payload, { id, headers })),
  });
  relay.start();
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
  const tokens = new ServiceTokens('auth', privateKeys.auth, publicKeys);
  const inForce = new InForceService(orm.em, relay, tokens, systemClock);
  Object.assign(inForce.times, PATIENT);
  const answers: Billing = {};
  const billing = {
    ask: async ({ path }: ServiceCall) => {
      const answer = answers[path];
      if (answer === undefined) throw new Rejected('not_found');
      return answer;
    },
  } as unknown as ServiceClient;
  /** Of the decisions about keys; what waits goes by the real one. */
  const clock = manualClock(new Date().toISOString());
  const gateways = new MadeUpGateways();
  return {
    orm,
    messaging,
    billing: answers,
    clock,
    gateways,
    keys: new KeysService(orm.em, relay, inForce, billing, {
      now: () => clock.now(),
      monotonic: () => systemClock.monotonic(),
    }),
    organizations: new OrganizationsService(orm.em, relay, inForce, systemClock),
    async stop() {
      await relay.stop();
      await inForce.onApplicationShutdown();
      gateways.stop();
      await messaging.close();
      await orm.close(true);
    },
  };
}

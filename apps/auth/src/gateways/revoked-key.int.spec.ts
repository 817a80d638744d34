import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { keyRevokedV1 } from '@sluice/contracts/auth';
import { migrate, OutboxRelay, type OutboxMessage } from '@sluice/event-store';
import { systemClock } from '@sluice/primitives/clock';
import { type ServiceClient, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { withBacking } from '@sluice/testing';
import { authDatabase } from '../database.js';
import { creditKeySchema } from '../keys/key-requests.js';
import { KeyRow, KeySecretRow, type Key } from '../keys/key.entity.js';
import { KeysService } from '../keys/keys.service.js';
import { GatewayRow } from './gateway.entity.js';
import { MadeUpGateways, PATIENT } from './gateways.fixture.js';
import { InForceService } from './in-force.service.js';

const ORGANIZATION = 'o1';
const actor: Actor = {
  kind: 'management',
  keyId: 'mk',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId: ORGANIZATION,
  project: null,
  requestId: 'r1',
  address: '127.0.0.1',
};
const rich = { ask: async () => ({ available: '1' }) } as unknown as ServiceClient;

const backing = withBacking(['postgres']);
const gateways = new MadeUpGateways();
let orm: MikroORM;
let relay: OutboxRelay;
let inForce: InForceService;
let keys: KeysService;
const stored: OutboxMessage[] = [];

beforeAll(async () => {
  const options = authDatabase((await backing.database('auth')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  relay = new OutboxRelay({ em: orm.em, publish: async (message) => void stored.push(message) });
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
  inForce = new InForceService(orm.em, relay, new ServiceTokens('auth', privateKeys.auth, publicKeys), systemClock);
  Object.assign(inForce.times, PATIENT);
  keys = new KeysService(orm.em, relay, inForce, rich, systemClock);
});
afterEach(async () => {
  stored.length = 0;
  gateways.stop();
  await orm.em.fork().nativeDelete(GatewayRow, {});
});
afterAll(async () => {
  await relay?.stop();
  await inForce?.onApplicationShutdown();
  await orm?.close(true);
});

async function newKey(): Promise<Key> {
  const { key } = await keys.issueCredit(actor, ORGANIZATION, creditKeySchema.parse({ name: 'n' }));
  stored.length = 0;
  return keys.get(ORGANIZATION, key.keyId, ['credit'], null);
}

describe('the revoke of a key', () => {
  it('is in force when the gateway confirmed its version, and again when it is repeated', async () => {
    await gateways.start(orm.em);
    const key = await newKey();
    expect(await keys.revoke(actor, key, 'deleted')).toMatchObject({ inForce: { confirmed: 1, of: 1 } });
    expect(await keys.revoke(actor, key, 'deleted')).toMatchObject({ inForce: { confirmed: 1, of: 1 } });
    const end = { id: key.keyId, version: 2, inflight: 'cut' };
    expect(gateways.heard).toEqual([end, end]);
  });

  it('publishes the event that other teams wait for, without the secret or its digest', async () => {
    const key = await newKey();
    await keys.revoke(actor, key, 'deleted');
    const message = stored.find(({ subject }) => subject === `evt.auth.key.revoked.v1.${ORGANIZATION}.${key.keyId}`);
    const event = keyRevokedV1.parse(JSON.parse(message!.payload));
    expect(event.data).toMatchObject({ keyId: key.keyId, reason: 'deleted', keyPrefix: key.keyPrefix });
    const { digest } = await orm.em.fork().findOneOrFail(KeySecretRow, { keyId: key.keyId });
    expect(message!.payload).not.toContain(digest);
  });
});

describe('a key', () => {
  it('is issued with its event, its read model and its message together, and its digest only', async () => {
    const { key, secret } = await keys.issueCredit(actor, ORGANIZATION, creditKeySchema.parse({ name: 'n' }));
    const row = await orm.em.fork().findOneOrFail(KeyRow, { keyId: key.keyId });
    expect(row).toMatchObject({ status: 'active', version: 1, organizationId: ORGANIZATION });
    const dump = await orm.em
      .fork()
      .getConnection()
      .execute<{ row: string }[]>(
        'select to_jsonb(e)::text as row from events e union all select to_jsonb(k)::text from api_keys k',
      );
    expect(dump.length).toBeGreaterThan(1);
    expect(dump.some(({ row: text }) => text.includes(secret!))).toBe(false);
  });

  it('of one Idempotency-Key is one key, whoever wins', async () => {
    const request = creditKeySchema.parse({ name: 'n' });
    const made = await Promise.all(
      Array.from({ length: 10 }, () => keys.issueCredit(actor, ORGANIZATION, request, 'same')),
    );
    expect(new Set(made.map(({ key }) => key.keyId)).size).toBe(1);
    expect(made.filter(({ secret }) => secret !== undefined)).toHaveLength(1);
  });

  it('is not given to another request under the same Idempotency-Key', async () => {
    await keys.issueCredit(actor, ORGANIZATION, creditKeySchema.parse({ name: 'n' }), 'mine');
    const other = keys.issueCredit(actor, ORGANIZATION, creditKeySchema.parse({ name: 'other' }), 'mine');
    await expect(other).rejects.toThrow(expect.objectContaining({ code: 'conflict' }));
  });
});

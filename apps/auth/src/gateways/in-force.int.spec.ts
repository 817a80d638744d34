import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { EVIDENCE_MS, keyRevokedV1 } from '@sluice/contracts/auth';
import { migrate, OutboxRelay, type OutboxMessage } from '@sluice/event-store';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { type ServiceClient, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { withBacking } from '@sluice/testing';
import { authDatabase } from '../database.js';
import { creditKeySchema } from '../keys/key-requests.js';
import { KeyRow, type Key } from '../keys/key.entity.js';
import { KeysService } from '../keys/keys.service.js';
import { GatewayRow } from './gateway.entity.js';
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
let orm: MikroORM;
let relay: OutboxRelay;
let keys: KeysService;
/** What the broker has stored; it is away while `brokerUp` is false. */
const stored: OutboxMessage[] = [];
let brokerUp = true;
const servers: Server[] = [];
const heard: { id: string; version: number }[] = [];

beforeAll(async () => {
  const options = authDatabase((await backing.database('auth')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  relay = new OutboxRelay({
    sweepMs: 50,
    em: orm.em,
    publish: async (message) => {
      if (!brokerUp) throw new Error('the broker is away');
      stored.push(message);
    },
  });
  relay.start();
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
  const inForce = new InForceService(
    orm.em,
    relay,
    new ServiceTokens('auth', privateKeys.auth, publicKeys),
    systemClock,
  );
  keys = new KeysService(orm.em, relay, inForce, rich, systemClock);
}, 60_000);
afterEach(async () => {
  brokerUp = true;
  relay.nudge();
  stored.length = 0;
  heard.length = 0;
  await orm.em.fork().nativeDelete(GatewayRow, {});
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});
afterAll(async () => {
  await relay?.stop();
  await orm?.close(true);
});

/** Registers a gateway that does with a pushed tombstone what `answer` says; undefined = nothing, for ever. */
async function gateway(answer: (boot: string) => { boot: string } | undefined): Promise<string> {
  const boot = systemId();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const reply = answer(boot);
      if (!reply) return;
      const { tombstones } = JSON.parse(Buffer.concat(chunks).toString()) as {
        tombstones: { id: string; version: number }[];
      };
      heard.push(...tombstones);
      response.end(JSON.stringify({ ...reply, tombstones }));
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const now = new Date();
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await orm.em.fork().insert(GatewayRow, { boot, url, registeredAt: now, lastLookupAt: now, retiredAt: null });
  return boot;
}

async function until(check: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !check(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (performance.now() > end) throw new Error('not so after 10 s');
  }
}

async function newKey(): Promise<Key> {
  const { key } = await keys.issueCredit(actor, ORGANIZATION, creditKeySchema.parse({ name: 'n' }));
  stored.length = 0;
  return keys.get(ORGANIZATION, key.keyId, ['credit'], null);
}

describe('a revoke', () => {
  it('is in force when every registered gateway confirmed it, also with the broker away', async () => {
    await gateway((boot) => ({ boot }));
    await gateway((boot) => ({ boot }));
    const key = await newKey();
    brokerUp = false;
    expect(await keys.revoke(actor, key, 'deleted')).toEqual({
      inForce: { confirmed: 2, of: 2, ms: expect.any(Number) },
    });
    expect(heard).toEqual([
      { id: key.keyId, version: 2, inflight: 'cut' },
      { id: key.keyId, version: 2, inflight: 'cut' },
    ]);
  });

  it('waits until the evidence of a gateway that says nothing has run out, counted from the broker storing it', async () => {
    await gateway((boot) => ({ boot }));
    await gateway(() => undefined);
    const key = await newKey();
    const from = performance.now();
    const revoked = await keys.revoke(actor, key, 'deleted');
    expect(revoked).toMatchObject({ inForce: { confirmed: 1, of: 2 } });
    expect(performance.now() - from).toBeGreaterThanOrEqual(EVIDENCE_MS);
    expect(stored.map(({ subject }) => subject)).toContain(`keyfeed.key.${key.keyId}`);
  }, 20_000);

  it('says "pending" and does not lie when it can neither be confirmed nor published', async () => {
    await gateway(() => undefined);
    const key = await newKey();
    brokerUp = false;
    expect(await keys.revoke(actor, key, 'deleted')).toEqual({ pending: true });
    expect((await keys.get(ORGANIZATION, key.keyId, ['credit'], null)).status).toBe('deleted');
  }, 20_000);

  it('runs the whole procedure again when it is repeated: the first may have ended half way', async () => {
    const key = await newKey();
    await keys.revoke(actor, key, 'deleted');
    await gateway((boot) => ({ boot }));
    stored.length = 0;
    expect(await keys.revoke(actor, key, 'deleted')).toMatchObject({ inForce: { confirmed: 1, of: 1 } });
    expect(heard).toEqual([{ id: key.keyId, version: 2, inflight: 'cut' }]);
    await until(() => stored.some(({ subject }) => subject === `keyfeed.key.${key.keyId}`));
  });

  it('does not take the answer of another process for a confirmation of the dead one, but for its end', async () => {
    const dead = await gateway(() => ({ boot: systemId() }));
    const key = await newKey();
    expect(await keys.revoke(actor, key, 'deleted')).toMatchObject({ inForce: { of: 1 } });
    expect((await orm.em.fork().findOneOrFail(GatewayRow, { boot: dead })).retiredAt).toBeInstanceOf(Date);
  });

  it('publishes the event that other teams wait for, without the secret or its digest', async () => {
    const key = await newKey();
    await keys.revoke(actor, key, 'deleted');
    await until(() => stored.length >= 2);
    const message = stored.find(({ subject }) => subject === `evt.auth.key.revoked.v1.${ORGANIZATION}.${key.keyId}`);
    const event = keyRevokedV1.parse(JSON.parse(message!.payload));
    expect(event.data).toMatchObject({ keyId: key.keyId, reason: 'deleted', keyPrefix: key.keyPrefix });
    expect(message!.payload).not.toMatch(/digest|secret/);
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

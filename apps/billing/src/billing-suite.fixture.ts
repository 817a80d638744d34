import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Actor } from '@sluice/contracts/actor';
import type { Price } from '@sluice/contracts/billing';
import { wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import { connect, type FeedMessage, type Messaging } from '@sluice/messaging';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { createApp, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { withBacking } from '@sluice/testing';
import { billingDatabaseOf, type BillingDatabase } from './billing-database.fixture.js';
import { billingConfig } from './billing.config.js';
import { BillingModule, consume } from './billing.module.js';
import type { PaymentProvider } from './payments/provider.js';

const base = {
  keyId: 'k',
  memberId: null,
  role: null,
  scopes: ['admin' as const],
  project: null,
  requestId: 'r-1',
  address: '127.0.0.1',
};
export const operator: Actor = { ...base, kind: 'operator', organizationId: null };
export const manager = (organizationId: string): Actor => ({ ...base, kind: 'management', organizationId });
/** Of the model `sim/small`, in the file that the service starts with. */
export const PRICES = { input: '2000000', cachedInput: '1000000', output: '3000000' };

/** Every answer's fields; which of them are there is what the tests look at. */
export interface Answer<Data> {
  readonly data: Data;
  readonly nextCursor: string | null;
  readonly error: { readonly code: string; readonly param?: string };
}

export interface Call {
  readonly as?: Actor;
  readonly body?: unknown;
  readonly key?: string | undefined;
}

/** The whole service on its own PostgreSQL and NATS, for a suite; call it where `beforeAll` may be called. */
export function billingSuite(clock: Clock = systemClock, payments?: PaymentProvider) {
  // Its own servers: another suite's service under the same durable name would take half of the messages.
  const backing = withBacking(['postgres', 'nats'], { own: true });
  const published: FeedMessage[] = [];
  let folder: string;
  let database: BillingDatabase;
  let app: NestFastifyApplication;
  let tokens: Record<'gateway' | 'auth' | 'router', ServiceTokens>;
  let messaging: Messaging;
  const priceFile = () => join(folder, 'prices.json');

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'billing-'));
    await writeFile(priceFile(), JSON.stringify({ prices: [{ model: 'sim/small', prices: PRICES }] }));
    database = await billingDatabaseOf(await backing.database('billing'));
    messaging = connect({ url: backing().nats.url, name: 'test' });
    await messaging.whenConnected(30_000);
    await messaging.provision();
    messaging.orderedConsumer('EVT_BILLING', {
      filter: 'evt.billing.>',
      start: 'all',
      onMessage: (message) => void published.push(message),
    });
    const { privateKeys, publicKeys } = await serviceKeys('gateway', 'auth', 'router', 'billing');
    tokens = {
      gateway: new ServiceTokens('gateway', privateKeys.gateway, publicKeys),
      auth: new ServiceTokens('auth', privateKeys.auth, publicKeys),
      router: new ServiceTokens('router', privateKeys.router, publicKeys),
    };
    const config = billingConfig({
      PORT: '0',
      LOG_LEVEL: 'silent',
      SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.billing),
      SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
      DATABASE_URL: database.url,
      NATS_URL: backing().nats.url,
      PRICES_FILE: priceFile(),
      KEY_SPEND_EVERY_MS: '50',
    });
    app = await createApp(
      { name: 'billing', config: () => config, module: (c) => BillingModule.with(c, clock, payments) },
      config,
    );
    consume(app);
    await app.startAllMicroservices();
    await app.listen(0, '127.0.0.1');
  }, 300_000);
  afterAll(async () => {
    await app?.close();
    await messaging?.close();
    await database?.close();
    if (folder) await rm(folder, { recursive: true });
  });

  const call = async <Data>(method: string, path: string, { as, body, key }: Call = {}) => {
    const response = await fetch(`${await app.getUrl()}${path}`, {
      method,
      headers: {
        authorization: await tokens.gateway.headerFor('billing', as),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(60_000),
    });
    return { status: response.status, body: (await response.json()) as Answer<Data> };
  };
  /** A question of a service, whose answer has no envelope. */
  const internal = async <T>(path: string) => (await call<never>('GET', path)).body as unknown as T;
  const grant = (body: Record<string, unknown>, key: string | null = systemId(), as = operator) =>
    call<{ transactionId: string }>('POST', '/api/operator/credits', { as, body, key: key ?? undefined });

  return {
    call,
    internal,
    grant,
    published,
    priceFile,
    servers: backing,
    app: () => app,
    messaging: () => messaging,
    rows: <Row = Record<string, unknown>>(sql: string) => database.rows<Row>(sql),
    prices: async () => (await internal<{ prices: Price[] }>('/internal/prices')).prices,
    status: async (organizationId: string) =>
      (await call<Record<string, unknown>>('GET', '/api/billing/status', { as: manager(organizationId) })).body.data,
    /** The status of an answer to another service than the gateway. */
    statusFor: async (service: keyof typeof tokens, path: string) => {
      const authorization = await tokens[service].headerFor('billing');
      return (await fetch(`${await app.getUrl()}${path}`, { headers: { authorization } })).status;
    },
    /** An organization that auth has told about, with some credit. */
    organization: async (amount?: string) => {
      const organizationId = systemId();
      const type = 'sluice.auth.organization.created.v1';
      const createdAt = new Date().toISOString();
      const fields = {
        id: systemId(),
        source: '/sluice/auth',
        subject: organizationId,
        time: createdAt,
        correlationId: 'r',
      };
      const event = wrap(type, fields, { organizationId, name: 'Org', createdAt });
      await messaging.publish(eventSubject(type, organizationId, organizationId), event, {
        id: fields.id,
        timeoutMs: 20_000,
      });
      if (amount === undefined) return organizationId;
      const key = systemId();
      await until('credit', async () => (await grant({ organizationId, amount, reason: 'test' }, key)).status === 200);
      return organizationId;
    },
  };
}

/** Waits for what happens a moment later. */
export async function until(what: string, check: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((tick) => setTimeout(tick, 25))) {
    if (await check()) return;
  }
  throw new Error(`not seen in 60 s: ${what}`);
}

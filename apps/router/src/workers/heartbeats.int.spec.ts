import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Actor } from '@sluice/contracts/actor';
import { heartbeatSubject } from '@sluice/contracts/subjects';
import { connect, type Messaging } from '@sluice/messaging';
import { createApp, ServiceTokens } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { exportJWK, generateKeyPair } from 'jose';
import { register } from 'prom-client';
import { routerConfig } from '../router.config.js';
import { RouterModule } from '../router.module.js';

const backing = withBacking(['nats'], { own: true });

const operator: Actor = {
  kind: 'operator',
  keyId: 'op-1',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId: null,
  project: null,
  requestId: 'r',
  address: '127.0.0.1',
};

let bus: Messaging;
let gateway: ServiceTokens;
let environment: Record<string, string>;
beforeAll(async () => {
  const make = async (kid: string) => {
    const { privateKey, publicKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
    return { secret: { ...(await exportJWK(privateKey)), kid }, open: { ...(await exportJWK(publicKey)), kid } };
  };
  const [caller, router] = await Promise.all([make('gateway'), make('router')]);
  const keys = { keys: [caller.open, router.open] };
  gateway = new ServiceTokens('gateway', caller.secret, keys);
  environment = {
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(router.secret),
    SERVICE_PUBLIC_KEYS: JSON.stringify(keys),
    NATS_URL: backing().nats.url,
    WAIT_FOR_WORKER_MS: '200',
    CONNECT_TIMEOUT_MS: '30000',
  };
  bus = connect({ url: backing().nats.url, name: 'workers of a test' });
  await bus.whenConnected(30_000);
  worker = createServer((request, response) => void response.end(request.url === '/health' ? '' : '{"id":"x"}'));
  workerUrl = await listening(worker);
  app = await start();
  url = await app.getUrl();
});
afterAll(async () => {
  await app?.close();
  await bus?.close();
  worker?.closeAllConnections();
  worker?.close();
});

let app: NestFastifyApplication;
let url: string;
/** Answers its health and every inference request; the tests stop it and bring it back. */
let worker: Server;
let workerUrl: string;

async function start(more: Record<string, string> = {}): Promise<NestFastifyApplication> {
  const config = routerConfig({ ...environment, ...more });
  const made = await createApp(
    { name: 'router', config: routerConfig, module: (read) => RouterModule.with(read) },
    config,
  );
  await made.listen(0, '127.0.0.1');
  return made;
}

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const beat = (id: string, at: string) => ({
  id,
  url: at,
  models: [{ id: 'org/model', maxModelLen: 4096 }],
  slots: 4,
  running: 1,
  waiting: 0,
  kvCacheUsage: 0.5,
  version: 'sim/1',
});

const say = (id: string, at: string) => bus.publishCore(heartbeatSubject(id), JSON.stringify(beat(id, at)));

async function infer(at = url) {
  const response = await fetch(`${at}/v1/chat/completions`, {
    method: 'POST',
    body: '{}',
    headers: {
      authorization: await gateway.headerFor('router'),
      'content-type': 'application/json',
      'x-sluice-model': 'org/model',
    },
  });
  return { status: response.status, body: await response.json() };
}

async function workers(actor: Actor = operator, init: RequestInit = {}) {
  const response = await fetch(`${url}/api/operator/workers`, {
    ...init,
    headers: { authorization: await gateway.headerFor('router', actor) },
  });
  const body = (await response.json()) as { data?: { id: string; state: string }[]; error?: { code: string } };
  return { status: response.status, ...body };
}

const states = async () => Object.fromEntries((await workers()).data!.map(({ id, state }) => [id, state]));

/** A heartbeat published before the router has subscribed is gone: workers send one a second. */
const heard = () =>
  until(async () => {
    say('w1', workerUrl);
    return (await infer()).status === 200;
  });

const live = () =>
  until(async () => {
    say('w1', workerUrl);
    return (await states())['w1'] === 'live';
  });

describe('heartbeats', () => {
  it('a worker that announces itself gets requests, and operators see it', async () => {
    expect((await infer()).status).toBe(503);
    await heard();
    await live();
    expect(await workers()).toMatchObject({
      success: true,
      data: [
        {
          id: 'w1',
          url: workerUrl,
          models: ['org/model'],
          slots: 4,
          inFlight: 0,
          lastSeen: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        },
      ],
    });
  });

  it('a worker that says what it speaks is asked in that, and the gateway is told of its models', async () => {
    const dialects = ['openai', 'messages'];
    await until(async () => {
      bus.publishCore(heartbeatSubject('w1'), JSON.stringify({ ...beat('w1', workerUrl), dialects }));
      const response = await fetch(`${url}/internal/models`, {
        headers: { authorization: await gateway.headerFor('router') },
      });
      return (await response.text()) === JSON.stringify({ models: [{ id: 'org/model', dialects }] });
    });
    expect((await fetch(`${url}/internal/models`)).status).toBe(401);
  });

  it('what is malformed, or names a host that is not allowed, is counted and changes nothing', async () => {
    const counted = async () =>
      Object.fromEntries(
        (await register.getSingleMetric('sluice_router_heartbeats_total')!.get()).values.map(({ labels, value }) => [
          labels['result'],
          value,
        ]),
      ) as Record<string, number>;
    await heard();
    const before = await counted();
    const bad = [
      'not json',
      '{}',
      JSON.stringify({ ...beat('w9', workerUrl), models: [] }),
      JSON.stringify({ ...beat('w9', workerUrl), slots: 0 }),
      JSON.stringify({ ...beat('w9', workerUrl), version: 'x'.repeat(70_000) }),
      JSON.stringify(beat('another', workerUrl)), // on w9's subject
    ];
    for (const data of bad) bus.publishCore(heartbeatSubject('w9'), data);
    say('w9', 'http://169.254.169.254');
    await until(async () => {
      const after = await counted();
      return (
        (after['malformed'] ?? 0) - (before['malformed'] ?? 0) === bad.length &&
        (after['not_allowed'] ?? 0) - (before['not_allowed'] ?? 0) === 1
      );
    });
    expect(Object.keys(await states())).toEqual(['w1']);
  });

  it('with NATS stopped calls go on; a worker that dies then is dropped, and comes back without the bus', async () => {
    await heard();
    await backing().nats.stop();
    try {
      await until(async () => (await states())['w1'] === 'silent');
      await until(async () => (await infer()).status === 200);
      expect((await states())['w1']).toBe('silent');

      const { port } = worker.address() as AddressInfo;
      worker.closeAllConnections();
      worker.close();
      await once(worker, 'close');
      await until(async () => (await states())['w1'] === 'down');
      expect((await infer()).status).toBe(503);

      worker.listen(port, '127.0.0.1');
      await until(async () => (await infer()).status === 200);
    } finally {
      await backing().nats.start();
    }
    await live();
  });

  it('a router that starts while NATS is down serves the workers of its configuration', async () => {
    await backing().nats.stop();
    const fixed = JSON.stringify([{ id: 'fixed', url: workerUrl, models: ['org/model'] }]);
    const second = await start({ WORKERS: fixed });
    try {
      const at = await second.getUrl();
      await until(async () => (await infer(at)).status === 200);
    } finally {
      await second.close();
      await backing().nats.start();
    }
    await bus.whenConnected(30_000);
  });
});

describe('operators', () => {
  it('an organization’s key does not see the workers', async () => {
    const other: Actor = { ...operator, kind: 'management', organizationId: 'org-1' };
    expect(await workers(other)).toMatchObject({
      status: 403,
      success: false,
      error: { code: 'scope_insufficient' },
    });
  });

  it('without a token: 401', async () => {
    expect((await fetch(`${url}/api/operator/workers`)).status).toBe(401);
  });

  it('registering a worker says that it is not there yet', async () => {
    expect(await workers(operator, { method: 'POST' })).toMatchObject({
      status: 501,
      error: { code: 'not_implemented' },
    });
  });
});

describe('the service', () => {
  it('answers its health and metrics', async () => {
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect(await (await fetch(`${url}/metrics`)).text()).toContain('sluice_router_workers');
  });

  it.each([
    ['/v1/images/generations', 'POST', 404],
    ['/nothing', 'GET', 404],
    ['/v1/chat/completions', 'GET', 404],
  ])('%s by %s is %d with a body in our dialect', async (path, method, status) => {
    const response = await fetch(url + path, { method });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { code: 'not_found' } });
  });

  it.each([
    [{ WORKERS: 'x' }, 'WORKERS'],
    [{ WORKERS: '[{"id":"a b","url":"u","models":[]}]' }, 'WORKERS'],
    [{ WORKER_ALLOW: '10.0.0.0/99' }, 'WORKER_ALLOW'],
    [{ WORKER_SECRETS: '[]' }, 'WORKER_SECRETS'],
  ])('%j is refused at boot, by name', (more: Record<string, string>, name) => {
    expect(() => routerConfig({ ...environment, ...more })).toThrow(name);
  });
});

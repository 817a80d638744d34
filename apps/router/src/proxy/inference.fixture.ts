import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { afterEach, beforeAll, beforeEach } from '@jest/globals';
import { usageBatchSchema, type UsageBatch } from '@sluice/contracts/gateway';
import { systemClock } from '@sluice/primitives/clock';
import { ServiceTokens } from '@sluice/service-kit';
import { until } from '@sluice/testing';
import Fastify, { type FastifyInstance } from 'fastify';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { Agent, request } from 'undici';
import { waiting } from '../router.metrics.js';
import { AllowList } from '../workers/allow-list.js';
import { WorkersService, type WorkersOptions } from '../workers/workers.service.js';
import { Witness } from '../witness/witness.service.js';
import { Admission } from './admission.js';
import { InferenceRoute, type InferenceOptions } from './inference.route.js';

export const SECRET = 'worker-secret';
export const PATH = '/v1/chat/completions';

export type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/** A worker written in the test: node:http, healthy, doing what the test says with inference requests. */
export interface FakeWorker {
  readonly url: string;
  readonly port: number;
  readonly server: Server | TcpServer;
  readonly seen: IncomingMessage[];
  close(): Promise<void>;
}

let signing: { gateway: JWK; auth: JWK; router: JWK; jwks: { keys: JWK[] } };
beforeAll(async () => {
  const make = async (kid: string) => {
    const { privateKey, publicKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
    return { secret: { ...(await exportJWK(privateKey)), kid }, open: { ...(await exportJWK(publicKey)), kid } };
  };
  const [gateway, auth, router] = await Promise.all(['gateway', 'auth', 'router'].map(make));
  signing = {
    gateway: gateway!.secret,
    auth: auth!.secret,
    router: router!.secret,
    jwks: { keys: [gateway!.open, auth!.open, router!.open] },
  };
});

const cleanups: (() => Promise<unknown>)[] = [];
let gateway: Agent;
beforeEach(() => {
  gateway = new Agent();
  cleanups.push(() => gateway.destroy());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

export async function fakeWorker(handler: Handler, port = 0): Promise<FakeWorker> {
  const seen: IncomingMessage[] = [];
  const server = createServer((incoming, response) => {
    if (incoming.url === '/health') {
      response.end();
      return;
    }
    seen.push(incoming);
    void handler(incoming, response);
  });
  return listen(server, seen, port);
}

/** A worker below HTTP: the test writes the bytes. Its health answers properly. */
export async function rawWorker(answer: (socket: Socket) => void): Promise<FakeWorker> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      const text = data.toString('latin1');
      if (text.startsWith('GET /health')) socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
      else if (text.startsWith('POST')) answer(socket);
    });
  });
  return listen(server, [], 0);
}

async function listen(server: Server | TcpServer, seen: IncomingMessage[], port: number): Promise<FakeWorker> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const bound = (server.address() as AddressInfo).port;
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) {
      server.close();
      await once(server, 'close');
    }
  };
  cleanups.push(close);
  return { url: `http://127.0.0.1:${bound}`, port: bound, server, seen, close };
}

export interface Router {
  readonly url: string;
  readonly app: FastifyInstance;
  readonly workers: WorkersService;
  readonly route: InferenceRoute;
  readonly witness: Witness;
  /** Batches of usage records that it published. */
  readonly told: UsageBatch[];
}

/** The router's hot path on a plain Fastify, without Nest: that it runs so is part of what is shown. */
export async function routerWith(
  workers: readonly FakeWorker[],
  options: Partial<InferenceOptions & WorkersOptions & { maxRequests: number }> = {},
): Promise<Router> {
  const service = new WorkersService(
    {
      fixed: [],
      allow: new AllowList(['127.0.0.0/8']),
      secrets: new Map([['*', SECRET]]),
      connectTimeoutMs: 30_000,
      waitMs: 300,
      maxWaiting: 10,
      ...options,
    },
    systemClock,
    () => 0.999,
  );
  service.onModuleInit();
  const told: UsageBatch[] = [];
  const witness = new Witness(
    'router-1',
    async (_subject, payload) => void told.push(usageBatchSchema.parse(JSON.parse(payload))),
    systemClock,
  );
  witness.onModuleInit();
  const route = new InferenceRoute(
    new ServiceTokens('router', signing.router, signing.jwks),
    service,
    witness,
    new Admission(options.maxRequests ?? 100, 64 * 1024 * 1024),
    systemClock,
    { defaultDeadlineMs: 60_000, maxDeadlineMs: 60_000, headersTimeoutMs: 60_000, idleTimeoutMs: 60_000, ...options },
  );
  const app = Fastify({ bodyLimit: 10 * 1024 * 1024 });
  await app.register(route.mount);
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  cleanups.push(async () => {
    await gateway.destroy();
    await service.onApplicationShutdown();
    await app.close();
    await witness.close();
  });
  for (const [i, { url: at }] of workers.entries()) hear(service, `w${i + 1}`, at);
  return { url, app, workers: service, route, witness, told };
}

export const hear = (service: WorkersService, id: string, url: string, models = ['m'], dialects?: string[]) =>
  service.heard({
    id,
    url,
    models: models.map((model) => ({ id: model })),
    slots: 8,
    running: 0,
    waiting: 0,
    kvCacheUsage: 0,
    version: '1',
    ...(dialects ? { dialects } : {}),
  });

export const token = (as: 'gateway' | 'auth' = 'gateway', audience: 'router' | 'billing' = 'router') =>
  new ServiceTokens(as, signing[as], signing.jwks).headerFor(audience);

interface CallOptions {
  path?: string;
  headers?: Record<string, string>;
  body?: string | Buffer | Readable;
  signal?: AbortSignal;
}

export async function call(
  router: Router,
  { path = PATH, headers = {}, body = '{"stream":true}', signal }: CallOptions = {},
) {
  return request(router.url + path, {
    method: 'POST',
    dispatcher: gateway,
    body,
    headers: {
      authorization: await token(),
      'content-type': 'application/json',
      'x-request-id': 'r-1',
      'x-sluice-model': 'm',
      ...headers,
    },
    ...(signal ? { signal } : {}),
  });
}

export const errorOf = async (response: Awaited<ReturnType<typeof call>>) => ({
  status: response.statusCode,
  code: ((await response.body.json()) as { error: { code: string } }).error.code,
  retryAfter: response.headers['retry-after'],
});

export const answers =
  (text: string, headers: Record<string, string> = {}): Handler =>
  (_, response) => {
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(text);
  };

export const fails =
  (status: number, headers: Record<string, string> = {}): Handler =>
  (_, response) => {
    response.writeHead(status, headers).end(`{"error":"${status}"}`);
  };

/** Every booking was given back. */
export const settled = (router: Router) => until(() => router.workers.list().every(({ inFlight }) => inFlight === 0));

export const inWaiting = async (count: number) => (await waiting.get()).values[0]?.value === count;

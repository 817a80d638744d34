import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { systemClock } from '@sluice/primitives/clock';
import { ServiceTokens } from '@sluice/service-kit';
import Fastify, { type FastifyInstance } from 'fastify';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { Agent, request } from 'undici';
import { waiting } from '../router.metrics.js';
import { AllowList } from '../workers/allow-list.js';
import { WorkersService, type WorkersOptions } from '../workers/workers.service.js';
import { Admission } from './admission.js';
import { InferenceRoute, type InferenceOptions } from './inference.route.js';

const SECRET = 'worker-secret';
const PATH = '/v1/chat/completions';

type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/** A worker written in the test: node:http, healthy, doing what the test says with inference requests. */
interface FakeWorker {
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

async function fakeWorker(handler: Handler, port = 0): Promise<FakeWorker> {
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
async function rawWorker(answer: (socket: Socket) => void): Promise<FakeWorker> {
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

interface Router {
  readonly url: string;
  readonly app: FastifyInstance;
  readonly workers: WorkersService;
  readonly route: InferenceRoute;
}

/** The router's hot path on a plain Fastify, without Nest: that it runs so is part of what is shown. */
async function routerWith(
  workers: readonly FakeWorker[],
  options: Partial<InferenceOptions & WorkersOptions & { maxRequests: number }> = {},
): Promise<Router> {
  const service = new WorkersService(
    {
      fixed: [],
      allow: new AllowList(['127.0.0.0/8']),
      secrets: new Map([['*', SECRET]]),
      connectTimeoutMs: 1_000,
      waitMs: 300,
      maxWaiting: 10,
      ...options,
    },
    systemClock,
    () => 0.999,
  );
  service.onModuleInit();
  const route = new InferenceRoute(
    new ServiceTokens('router', signing.router, signing.jwks),
    service,
    new Admission(options.maxRequests ?? 100, 64 * 1024 * 1024),
    systemClock,
    { defaultDeadlineMs: 10_000, maxDeadlineMs: 60_000, headersTimeoutMs: 10_000, idleTimeoutMs: 10_000, ...options },
  );
  const app = Fastify({ bodyLimit: 10 * 1024 * 1024 });
  await app.register(route.mount);
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  cleanups.push(async () => {
    await gateway.destroy();
    await service.onApplicationShutdown();
    await app.close();
  });
  for (const [i, { url: at }] of workers.entries()) hear(service, `w${i + 1}`, at);
  return { url, app, workers: service, route };
}

const hear = (service: WorkersService, id: string, url: string, models = ['m']) =>
  service.heard({
    id,
    url,
    models: models.map((model) => ({ id: model })),
    slots: 8,
    running: 0,
    waiting: 0,
    kvCacheUsage: 0,
    version: '1',
  });

const token = (as: 'gateway' | 'auth' = 'gateway', audience: 'router' | 'billing' = 'router') =>
  new ServiceTokens(as, signing[as], signing.jwks).headerFor(audience);

interface CallOptions {
  headers?: Record<string, string>;
  body?: string | Buffer;
  signal?: AbortSignal;
}

async function call(router: Router, { headers = {}, body = '{"stream":true}', signal }: CallOptions = {}) {
  return request(`${router.url}${PATH}`, {
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

const errorOf = async (response: Awaited<ReturnType<typeof call>>) => ({
  status: response.statusCode,
  code: ((await response.body.json()) as { error: { code: string } }).error.code,
  retryAfter: response.headers['retry-after'],
});

const answers =
  (text: string, headers: Record<string, string> = {}): Handler =>
  (_, response) => {
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(text);
  };

const fails =
  (status: number, headers: Record<string, string> = {}): Handler =>
  (_, response) => {
    response.writeHead(status, headers).end(`{"error":"${status}"}`);
  };

describe('passing through', () => {
  it('request and answer arrive byte for byte, the answer in the pieces it was sent in', async () => {
    const sent = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 256));
    const pieces = ['data: {"a":"ä€"}\n\n', ': sluice\n\n', 'data: [DONE]\n\n'].map((text) => Buffer.from(text));
    let got = Buffer.alloc(0);
    let next: () => void = () => undefined;
    const worker = await fakeWorker(async (incoming, response) => {
      got = Buffer.concat(await incoming.toArray());
      response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'content-encoding': 'identity' });
      for (const piece of pieces) {
        response.write(piece);
        await new Promise<void>((resolve) => (next = resolve));
      }
      response.end();
    });
    const router = await routerWith([worker]);

    const response = await call(router, { body: sent });
    const received: Buffer[] = [];
    for await (const chunk of response.body) {
      received.push(chunk as Buffer);
      next();
    }

    expect(got.equals(sent)).toBe(true);
    // Each piece was read before the next one was sent: none was held back.
    expect(received.map(String)).toEqual(pieces.map(String));
    expect(response.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'content-encoding': 'identity',
      'x-request-id': 'r-1',
      'x-sluice-worker': 'w1',
      'x-sluice-attempt': '1',
    });
  });

  it('an answer of known length keeps it, an empty one stays empty', async () => {
    const full = await routerWith([await fakeWorker(answers('{"ok":true}', { 'content-length': '11' }))]);
    const response = await call(full);
    expect(response.headers['content-length']).toBe('11');
    expect(await response.body.text()).toBe('{"ok":true}');
    const empty = await routerWith([await fakeWorker((_, out) => void out.writeHead(204).end())]);
    const nothing = await call(empty);
    expect([nothing.statusCode, await nothing.body.text()]).toEqual([204, '']);
  });

  it('the worker sees its own secret and attempt id, never a client’s key or the service token', async () => {
    const worker = await fakeWorker(answers('{}'));
    const router = await routerWith([worker]);
    await (await call(router, { headers: { 'x-api-key': 'sk_live_x', cookie: 'c=1', 'x-custom': '1' } })).body.dump();
    const { headers } = worker.seen[0]!;
    expect(headers).toMatchObject({ authorization: `Bearer ${SECRET}`, 'x-request-id': 'r-1.1' });
    expect(Object.keys(headers).toSorted()).toEqual(
      ['authorization', 'connection', 'content-length', 'content-type', 'host', 'x-request-id'].toSorted(),
    );
  });

  it('a worker under a path of its host is asked there', async () => {
    const server = await fakeWorker(answers('{}'));
    const router = await routerWith([]);
    hear(router.workers, 'w1', `${server.url}/base/`);
    await (await call(router)).body.dump();
    expect(server.seen[0]!.url).toBe(`/base${PATH}`);
  });

  it('a 4xx about the request passes through with its body and is not tried again', async () => {
    const worker = await fakeWorker(fails(422));
    const router = await routerWith([worker, await fakeWorker(answers('{}'))]);
    // The first of equals is chosen by the random source: see routerWith.
    const response = await call(router);
    expect([response.statusCode, await response.body.text()]).toEqual([422, '{"error":"422"}']);
    expect(response.headers['x-sluice-attempt']).toBe('1');
  });

  it('a slow reader holds the worker back instead of filling this process', async () => {
    const total = 64 * 1024 * 1024;
    const chunk = Buffer.alloc(64 * 1024, 'x');
    let sent = 0;
    let held: () => void;
    const isHeld = new Promise<void>((resolve) => (held = resolve));
    const worker = await fakeWorker((_, response) => {
      response.writeHead(200);
      const push = () => {
        while (sent < total) {
          sent += chunk.length;
          if (!response.write(chunk)) {
            const timer = setTimeout(() => held(), 500);
            response.once('drain', () => {
              clearTimeout(timer);
              push();
            });
            return;
          }
        }
        response.end();
      };
      push();
    });
    const router = await routerWith([worker]);

    const response = await call(router);
    await isHeld;
    // What fits into the sockets' buffers on the way, far from the whole.
    expect(sent).toBeLessThan(total / 2);

    let read = 0;
    for await (const part of response.body) read += (part as Buffer).length;
    expect(read).toBe(total);
  });
});

describe('the gateway goes away', () => {
  it.each(['before the first byte', 'in the middle of the answer'])('%s: the worker is cut off', async (when) => {
    let cut: () => void;
    const isCut = new Promise<void>((resolve) => (cut = resolve));
    let arrived: () => void;
    const hasArrived = new Promise<void>((resolve) => (arrived = resolve));
    const worker = await fakeWorker((_, response) => {
      response.on('close', () => cut());
      if (when !== 'before the first byte') response.writeHead(200).write('data: 1\n\n');
      arrived();
    });
    const router = await routerWith([worker]);
    const leaving = new AbortController();
    const pending = call(router, { signal: leaving.signal });
    pending.catch(() => undefined);
    await hasArrived;
    if (when !== 'before the first byte') {
      const response = await pending;
      response.body.on('error', () => undefined);
    }
    leaving.abort();
    await isCut; // by jest's time limit at the latest
    expect(worker.seen).toHaveLength(1);
    await settled(router);
  });

  it('a request that waits for a worker is given up too', async () => {
    const router = await routerWith([], { waitMs: 60_000, maxWaiting: 1 });
    const leaving = new AbortController();
    const first = call(router, { signal: leaving.signal });
    const left = expect(first).rejects.toThrow();
    await eventually(() => inWaiting(1));
    expect((await call(router)).statusCode).toBe(503); // the one place is taken
    leaving.abort();
    await left;
    await eventually(() => inWaiting(0));
    // Its place is free again: the next one waits, and gets the worker that comes.
    const second = call(router);
    await eventually(() => inWaiting(1));
    hear(router.workers, 'w1', (await fakeWorker(answers('{}'))).url);
    expect((await second).statusCode).toBe(200);
  });
});

describe('retries', () => {
  it.each([
    ['a 500', fails(500)],
    ['a 503', fails(503)],
    ['a connection that breaks', (incoming: IncomingMessage) => incoming.socket.destroy()],
    [
      'a break after the head and before the first byte',
      (incoming: IncomingMessage, response: ServerResponse) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.flushHeaders();
        setTimeout(() => incoming.socket.destroy(), 20);
      },
    ],
    ['a full worker (429)', fails(429)],
    ['our secret refused (401)', fails(401)],
    ['a redirect', fails(307, { location: 'http://169.254.169.254/' })],
  ] as [string, Handler][])('%s is tried again on another worker, and the answer says so', async (_, handler) => {
    const bad = await fakeWorker(handler);
    const good = await fakeWorker(answers('{"from":"good"}'));
    const router = await routerWith([bad, good]);
    const response = await call(router);
    expect(await response.body.json()).toEqual({ from: 'good' });
    expect(response.headers).toMatchObject({ 'x-sluice-attempt': '2', 'x-sluice-worker': 'w2' });
    expect(bad.seen).toHaveLength(1);
    expect(good.seen[0]!.headers['x-request-id']).toBe('r-1.2');
    await settled(router);
  });

  it('a worker that is not there is passed over, and not asked by the next request', async () => {
    const dead = await fakeWorker(answers('{}'));
    const good = await fakeWorker(answers('{}'));
    const router = await routerWith([dead, good]);
    await dead.close();
    const first = await call(router);
    await first.body.dump();
    expect(first.headers['x-sluice-attempt']).toBe('2');
    const second = await call(router);
    await second.body.dump();
    expect(second.headers['x-sluice-attempt']).toBe('1');
  });

  it('after the first byte nothing is tried again, and the part does not look like the whole', async () => {
    const bad = await fakeWorker((incoming, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n', () => setTimeout(() => incoming.socket.destroy(), 20));
    });
    const good = await fakeWorker(answers('{}'));
    const router = await routerWith([bad, good]);
    const response = await call(router);
    await expect(response.body.text()).rejects.toThrow();
    expect(good.seen).toHaveLength(0);
    await settled(router);
  });

  it('ends after three attempts: no request goes round all the workers', async () => {
    const workers = await Promise.all([1, 2, 3, 4].map(() => fakeWorker(fails(500))));
    const router = await routerWith(workers);
    const response = await call(router);
    expect(await errorOf(response)).toMatchObject({ status: 502, code: 'worker_error' });
    expect(response.headers['x-sluice-attempt']).toBe('3');
    expect(workers.reduce((sum, { seen }) => sum + seen.length, 0)).toBe(3);
  });

  it('the failing worker is not asked twice when it is the only one', async () => {
    const worker = await fakeWorker(fails(500));
    const router = await routerWith([worker]);
    expect(await errorOf(await call(router))).toMatchObject({ status: 502, code: 'worker_error' });
    expect(worker.seen).toHaveLength(1);
  });

  it('all full: 429 with the worker’s own word on when to come back', async () => {
    const router = await routerWith([await fakeWorker(fails(429, { 'retry-after': '7' }))]);
    expect(await errorOf(await call(router))).toEqual({ status: 429, code: 'queue_full', retryAfter: '7' });
  });
});

describe('no worker', () => {
  it('none for the model: 503 with retry-after, after a short wait', async () => {
    const router = await routerWith([await fakeWorker(answers('{}'))]);
    const response = await call(router, { headers: { 'x-sluice-model': 'other' } });
    expect(await errorOf(response)).toEqual({ status: 503, code: 'unavailable', retryAfter: '1' });
  });

  it('all dead: 503 with retry-after', async () => {
    const workers = await Promise.all([1, 2].map(() => fakeWorker(answers('{}'))));
    const router = await routerWith(workers);
    await Promise.all(workers.map((worker) => worker.close()));
    expect(await errorOf(await call(router))).toEqual({ status: 503, code: 'unavailable', retryAfter: '1' });
  });

  it('a call that falls into the restart of the only worker is answered, not failed', async () => {
    const before = await fakeWorker(answers('{}'));
    const router = await routerWith([before], { waitMs: 10_000 });
    await before.close();
    const pending = call(router);
    await eventually(() => Promise.resolve(router.workers.list()[0]!.state === 'suspect'));
    const after = await fakeWorker(answers('{"after":true}'), before.port);
    expect(await (await pending).body.json()).toEqual({ after: true });
    expect(after.seen).toHaveLength(1);
  });

  it('more waiting than allowed are refused at once', async () => {
    const router = await routerWith([], { waitMs: 60_000, maxWaiting: 0 });
    expect(await errorOf(await call(router))).toMatchObject({ status: 503, code: 'unavailable' });
  });
});

describe('time', () => {
  it('the deadline passes before the worker begins: 504, and the worker is cut off', async () => {
    let cut: () => void;
    const isCut = new Promise<void>((resolve) => (cut = resolve));
    const worker = await fakeWorker((_, response) => void response.on('close', () => cut()));
    const router = await routerWith([worker, await fakeWorker(answers('{}'))]);
    const response = await call(router, { headers: { 'x-sluice-deadline-ms': '150' } });
    expect(await errorOf(response)).toMatchObject({ status: 504, code: 'timeout' });
    await isCut;
  });

  it('the deadline passes while no worker is there: 504', async () => {
    const router = await routerWith([], { waitMs: 60_000 });
    const response = await call(router, { headers: { 'x-sluice-deadline-ms': '100' } });
    expect(await errorOf(response)).toMatchObject({ status: 504, code: 'timeout' });
  });

  it('the deadline passes in the middle of the answer: both sides are cut, and the part is not the whole', async () => {
    let cut: () => void;
    const isCut = new Promise<void>((resolve) => (cut = resolve));
    const worker = await fakeWorker((_, response) => {
      response.writeHead(200).write('data: 1\n\n');
      response.on('close', () => cut());
    });
    const router = await routerWith([worker]);
    const response = await call(router, { headers: { 'x-sluice-deadline-ms': '300' } });
    await expect(response.body.text()).rejects.toThrow();
    await isCut;
    await settled(router);
  });

  it('a worker that never begins is left for another one', async () => {
    const stuck = await fakeWorker(() => undefined);
    const router = await routerWith([stuck, await fakeWorker(answers('{}'))], { headersTimeoutMs: 200 });
    const response = await call(router);
    await response.body.dump();
    expect([response.statusCode, response.headers['x-sluice-attempt']]).toEqual([200, '2']);
  });
});

describe('a worker that does not speak HTTP', () => {
  it.each([
    ['an invalid status line', 'HTTP/1.1 abc OK\r\n\r\n'],
    ['a status that is none', 'HTTP/1.1 000 Nothing\r\ncontent-length: 0\r\n\r\n'],
    ['something else', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['a header that cannot be written', 'HTTP/1.1 200 OK\r\nx-a: \x01\r\ncontent-length: 2\r\n\r\n{}'],
    ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}'],
  ])('%s is contained: another worker answers', async (_, bytes) => {
    const odd = await rawWorker((socket) => void socket.write(bytes, 'latin1'));
    const router = await routerWith([odd, await fakeWorker(answers('{}'))]);
    const response = await call(router);
    await response.body.dump();
    expect([response.statusCode, response.headers['x-sluice-attempt']]).toEqual([200, '2']);
  });

  it('endless headers end at the limit instead of in this process’s memory', async () => {
    let written = 0;
    const odd = await rawWorker((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const more = () => {
        while (!socket.destroyed && written < 64 * 1024 * 1024) {
          written += 1_024;
          if (!socket.write(`x-${written}: ${'a'.repeat(1_000)}\r\n`)) {
            socket.once('drain', more);
            return;
          }
        }
      };
      more();
    });
    const router = await routerWith([odd]);
    expect(await errorOf(await call(router))).toMatchObject({ status: 502, code: 'worker_error' });
    expect(written).toBeLessThan(64 * 1024 * 1024);
  });

  it('less than the announced length is a break, not an answer', async () => {
    const odd = await rawWorker((socket) => void socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}'));
    const router = await routerWith([odd]);
    const response = await call(router);
    await expect(response.body.text()).rejects.toThrow();
  });
});

describe('who may call', () => {
  it.each([
    ['no token', () => Promise.resolve('')],
    ['a malformed token', () => Promise.resolve('Bearer x.y.z')],
    ['another scheme', () => Promise.resolve('Basic Z2F0ZXdheTp4')],
    ['a token for another service', () => token('gateway', 'billing')],
  ])('%s: 401, before the body is read', async (_, header) => {
    const worker = await fakeWorker(answers('{}'));
    const router = await routerWith([worker]);
    const response = await call(router, { headers: { authorization: await header() } });
    expect(await errorOf(response)).toMatchObject({ status: 401, code: 'invalid_api_key' });
    expect(worker.seen).toHaveLength(0);
  });

  it('another service than the gateway: 403', async () => {
    const router = await routerWith([]);
    const response = await call(router, { headers: { authorization: await token('auth') } });
    expect(await errorOf(response)).toMatchObject({ status: 403, code: 'scope_insufficient' });
  });
});

describe('bad input', () => {
  it.each([
    [{ 'x-sluice-model': '' }, '{}', 400, 'invalid_request'],
    [{ 'x-sluice-deadline-ms': 'soon' }, '{}', 400, 'invalid_request'],
    [{}, '', 400, 'invalid_request'],
    [{}, Buffer.alloc(12 * 1024 * 1024), 413, 'request_too_large'],
  ] as [Record<string, string>, string | Buffer, number, string][])(
    '%j is refused in our dialect',
    async (headers, body, status, code) => {
      const router = await routerWith([await fakeWorker(answers('{}'))]);
      expect(await errorOf(await call(router, { headers, body }))).toMatchObject({ status, code });
    },
  );

  it('beyond what this process can hold, requests are refused at once and room is made again', async () => {
    let finish: () => void = () => undefined;
    const worker = await fakeWorker((_, response) => {
      finish = () => void response.end('{}');
    });
    const router = await routerWith([worker], { maxRequests: 1 });
    const first = call(router);
    await eventually(() => Promise.resolve(worker.seen.length === 1));
    expect(await errorOf(await call(router))).toMatchObject({ status: 429, code: 'queue_full', retryAfter: '1' });
    finish();
    await (await first).body.dump();
    const third = call(router);
    await eventually(() => Promise.resolve(worker.seen.length === 2));
    finish();
    expect((await third).statusCode).toBe(200);
  });
});

describe('load', () => {
  it('simultaneous requests are spread by what this router has running, not by what workers report', async () => {
    const open: ServerResponse[] = [];
    const slow: Handler = (_, response) => void open.push(response);
    const workers = await Promise.all([1, 2, 3].map(() => fakeWorker(slow)));
    const router = await routerWith(workers);
    const calls = Array.from({ length: 9 }, () => call(router));
    await eventually(() => Promise.resolve(open.length === 9));
    expect(workers.map(({ seen }) => seen.length)).toEqual([3, 3, 3]);
    expect(router.workers.list().map(({ inFlight }) => inFlight)).toEqual([3, 3, 3]);
    for (const response of open) response.end('{}');
    for (const pending of calls) await (await pending).body.dump();
    await settled(router);
  });
});

describe('shutdown', () => {
  it('a running stream is finished, and the connection is closed after it', async () => {
    let response: ServerResponse | undefined;
    const worker = await fakeWorker((_, out) => {
      response = out.writeHead(200);
      response.write('1');
    });
    const router = await routerWith([worker]);
    const running = httpRequest(`${router.url}${PATH}`, {
      method: 'POST',
      headers: { authorization: await token(), 'x-sluice-model': 'm', 'content-type': 'application/json' },
    });
    running.end('{}');
    const [answer] = (await once(running, 'response')) as [IncomingMessage];
    router.route.drain();
    const closed = router.app.close();
    response!.end('2');
    expect(String(Buffer.concat(await answer.toArray()))).toBe('12');
    await closed; // not before keep-alive's end, were the connection left open
  });
});

/** Every booking was given back. */
const settled = (router: Router) =>
  eventually(() => Promise.resolve(router.workers.list().every(({ inFlight }) => inFlight === 0)));

const inWaiting = async (count: number) => (await waiting.get()).values[0]?.value === count;

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('it did not come to be');
}

import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import type { ServiceTokens } from '@sluice/service-kit';
import { until } from '@sluice/testing';
import fastify, { type FastifyInstance } from 'fastify';
import { register } from 'prom-client';
import type { Admission } from '../inference/admission.service.js';
import { InferenceRoute } from '../inference/inference.route.js';
import { Relay } from '../inference/relay.service.js';
import type { Tokenizer } from '../tokens/tokenizer.service.js';
import { RouterClient } from '../inference/router.client.js';
import type { Journal } from '../journal/journal.service.js';
import type { Cut } from '../keys/in-flight.js';
import type { Keys } from '../keys/keys.service.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import type { SpokenDialects } from '../workers/spoken-dialects.service.js';
import type { Refusals } from '../refusals/refusals.service.js';
import { Uploads } from './uploads.service.js';

const KIB = 1024;
const LIMIT = 4 * KIB * KIB;
const HOLD = 256 * KIB;
const HOLD_ALL = 400 * KIB;
const BIG = 512 * KIB * KIB;

/** What the router does with what comes. */
let routed: (request: IncomingMessage, response: ServerResponse) => unknown;
let router: Server;
let gateway: FastifyInstance;
let client: RouterClient;
let url: string;
let opened: number;
let ends: Omit<UsageRecord, 'seq'>[];
let cuts: Set<Cut>;
let results: string[];

beforeEach(() => start(LIMIT));
afterEach(async () => {
  router.closeAllConnections();
  router.close();
  await client.close();
  gateway.server.closeAllConnections();
  await gateway.close();
});

async function start(limit: number): Promise<void> {
  register.clear();
  [opened, ends, cuts, results] = [0, [], new Set(), []];
  router = createServer((request, response) => void routed(request, response));
  await new Promise<void>((resolve) => router.listen(0, '127.0.0.1', resolve));
  const credential = aKnownKey({ rpm: null, tpm: null, concurrency: null });
  const use = { scope: 'inference:write', address: '127.0.0.1' };
  const presented = { digest: 'd', credential, organizationId: 'o1', use };
  const workload = { project: 'default', name: 'listen', model: 'theirs' };
  const admission = {
    identify: async () => presented,
    place: async () => ({ ...presented, workload, price: { version: 'v', prices: {} } }),
    limit: async () => undefined,
    holds: () => credential,
  } as unknown as Admission;
  const journal = {
    open: async () => void opened++,
    end: async (record: UsageRecord) => void ends.push(record),
    count: () => {},
  } as unknown as Journal;
  const keys = {
    track: (_: unknown, cut: Cut) => {
      cuts.add(cut);
      return { running: { credential, cut, drained: false, askedAt: 0 }, off: () => cuts.delete(cut) };
    },
    goesOn: () => undefined,
  } as unknown as Keys;
  client = new RouterClient(
    `http://127.0.0.1:${(router.address() as AddressInfo).port}`,
    { headerFor: async () => 'Bearer t' } as unknown as ServiceTokens,
    admission,
  );
  const relay = new Relay(client, admission, keys, journal, {} as Tokenizer, 60_000);
  const refusals = { note: (_: unknown, why: { code: string }) => results.push(why.code) } as unknown as Refusals;
  const uploads = new Uploads(limit, { one: HOLD, all: HOLD_ALL });
  const route = new InferenceRoute(admission, journal, relay, refusals, uploads, {} as SpokenDialects);
  gateway = fastify();
  gateway.removeAllContentTypeParsers();
  gateway.addContentTypeParser('*', (_request, payload, parsed) => parsed(null, payload));
  gateway.post('/v1', (request, reply) => route.handle(request, reply, 'audio/transcriptions'));
  gateway.post('/w', (request, reply) => route.handle(request, reply, 'audio/transcriptions', 'default/listen'));
  url = await gateway.listen({ port: 0, host: '127.0.0.1' });
}

const part = (name: string, more = '') => `--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`;
const FILE = part('file', '; filename="a"');
const MODEL = `${part('model')}mine\r\n`;
const END = '\r\n--b--\r\n';
const OK = '{"text":"a","usage":{"type":"duration","seconds":2}}';

/** A client that sends what the test says, when it says so. */
function sender(path = '/v1', headers: Record<string, string> = {}) {
  const request = httpRequest(url + path, {
    method: 'POST',
    headers: { 'content-type': 'multipart/form-data; boundary=b', ...headers },
  });
  const answered = new Promise<{ status: number; code: string | undefined }>((resolve, reject) => {
    request.on('error', reject).on('response', (response) => {
      const told = (chunks: unknown[]) => (JSON.parse(chunks.join('')) as { error?: { code: string } }).error?.code;
      void response.toArray().then((chunks) => resolve({ status: response.statusCode!, code: told(chunks) }), reject);
    });
  });
  answered.catch(() => {});
  return { request, answered };
}
const read = async (request: IncomingMessage) => Buffer.concat(await request.toArray());
const json = (response: ServerResponse) =>
  response.setHeader('x-sluice-worker', 'w1').setHeader('content-type', 'application/json').end(OK);
const held = async () => (await register.getSingleMetric('gateway_uploads_held_bytes')!.get()).values[0]!.value;

describe('an upload', () => {
  it('goes on as it comes: the router has its beginning before the client has sent its end', async () => {
    let got = Buffer.alloc(0);
    routed = async (request, response) => {
      for await (const chunk of request) got = Buffer.concat([got, chunk as Buffer]);
      json(response);
    };
    const { request, answered } = sender();
    request.write(`${MODEL}${FILE}abc${'x'.repeat(KIB)}`);
    await until(async () => got.includes('abcx') && (await held()) === 0);
    request.end(`def${END}`);
    expect(await answered).toEqual({ status: 200, code: undefined });
    expect(got.toString()).toBe(`${part('model')}theirs\r\n${FILE}abc${'x'.repeat(KIB)}def${END}`);
    expect(ends).toMatchObject([{ outcome: 'ok', rank: 4, audioMs: '2000', inputTokens: '0', stream: false }]);
  });

  it('whose worker says words alone is metered by its own bytes, below any count of a worker', async () => {
    routed = (request, response) => {
      request.resume().on('end', () => response.setHeader('content-type', 'text/plain').end('{"words": 1}'));
    };
    const { request, answered } = sender();
    request.end(`${MODEL}${FILE}${'x'.repeat(8_000)}${END}`);
    expect(await answered).toMatchObject({ status: 200 });
    expect(ends).toMatchObject([{ outcome: 'ok', rank: 2, estimated: true, audioMs: '2000' }]);
  });

  it('is waited for at a router that is being restarted, and nothing of it is lost', async () => {
    const { port } = router.address() as AddressInfo;
    await new Promise((resolve) => router.close(resolve));
    const { request, answered } = sender();
    request.end(`${MODEL}${FILE}${'x'.repeat(64 * KIB)}${END}`);
    await until(() => opened === 1);
    let got: Buffer | undefined;
    routed = async (request, response) => {
      got = await read(request);
      json(response);
    };
    router = createServer((request, response) => void routed(request, response));
    await new Promise<void>((resolve) => router.listen(port, '127.0.0.1', resolve));
    expect(await answered).toMatchObject({ status: 200 });
    expect(got!.toString()).toBe(`${part('model')}theirs\r\n${FILE}${'x'.repeat(64 * KIB)}${END}`);
  });

  it('that grows too large is cancelled, told so, and has its END', async () => {
    let cancelled = false;
    routed = (request) => request.resume().on('close', () => (cancelled = !request.complete));
    const { request, answered } = sender();
    request.write(`${MODEL}${FILE}`);
    const sending = setInterval(() => request.write(Buffer.alloc(256 * KIB)), 5);
    expect(await answered).toEqual({ status: 413, code: 'request_too_large' });
    clearInterval(sending);
    request.destroy();
    await until(() => cancelled);
    expect(ends).toMatchObject([{ outcome: 'error', rank: 1 }]);
    expect(ends[0]).not.toHaveProperty('audioMs');
  });

  it('whose client leaves is cancelled, and has its END; before it was sent on there is nothing to end', async () => {
    let arrived = false;
    let cancelled = false;
    routed = (request) => {
      arrived = true;
      request.resume().on('close', () => (cancelled = !request.complete));
    };
    const { request } = sender();
    request.write(`${MODEL}${FILE}abc`);
    // At the router: who leaves before that leaves nothing to be cancelled.
    await until(() => arrived);
    request.destroy();
    await until(() => cancelled && ends.length === 1);
    expect(ends).toMatchObject([{ outcome: 'aborted', rank: 1 }]);

    const early = sender();
    early.request.write(`${FILE}abc`);
    await until(async () => (await held()) > 0);
    early.request.destroy();
    await until(async () => (await held()) === 0);
    expect([opened, ends.length]).toEqual([1, 1]);
  });

  it('that stalls is ended by its deadline, before and after it was sent on', async () => {
    routed = (request) => request.resume();
    const early = sender('/v1', { 'x-sluice-deadline-ms': '200' });
    early.request.write(MODEL);
    expect(await early.answered).toEqual({ status: 504, code: 'timeout' });
    early.request.destroy();
    expect(opened).toBe(0);
    // On a machine that stands still it may pass before anything is sent on.
    await until(async () => {
      const late = sender('/v1', { 'x-sluice-deadline-ms': '500' });
      late.request.write(`${MODEL}${FILE}abc`);
      expect(await late.answered).toEqual({ status: 504, code: 'timeout' });
      late.request.destroy();
      return opened > 0;
    });
    expect(ends).toMatchObject([{ outcome: 'error' }]);
  });

  it('on a key that is revoked meanwhile is cut', async () => {
    const { Rejected } = await import('@sluice/contracts/errors');
    routed = (request) => request.resume();
    const { request, answered } = sender();
    request.write(`${MODEL}${FILE}abc`);
    await until(() => cuts.size === 1);
    for (const cut of cuts) cut(new Rejected('invalid_api_key'));
    expect(await answered).toEqual({ status: 401, code: 'invalid_api_key' });
    request.destroy();
  });

  it('that its worker refuses in its midst is told so at once, and what still comes is thrown away', async () => {
    routed = (_request, response) =>
      response
        .writeHead(400, { 'x-sluice-worker': 'w1', 'content-type': 'application/json' })
        .end('{"error":{"code":"x"}}');
    const { request, answered } = sender();
    request.write(`${MODEL}${FILE}abc`);
    expect(await answered).toEqual({ status: 400, code: 'x' });
    // All of it is taken: the client is not left with a connection that nobody reads.
    await new Promise<void>((resolve) => request.write(Buffer.alloc(LIMIT), () => resolve()));
    request.destroy();
    expect(ends).toHaveLength(1);
  });
});

describe('a file that comes before its model', () => {
  it('is held until the model is there, and passes as it came', async () => {
    let got: Buffer | undefined;
    routed = async (request, response) => {
      got = await read(request);
      json(response);
    };
    const { request, answered } = sender();
    request.write(`${FILE}${'x'.repeat(100 * KIB)}\r\n`);
    await until(async () => (await held()) >= 100 * KIB);
    expect(opened).toBe(0);
    request.end(`${MODEL}--b--\r\n`);
    expect(await answered).toMatchObject({ status: 200 });
    expect(got!.toString()).toBe(`${FILE}${'x'.repeat(100 * KIB)}\r\n${part('model')}theirs${END}`);
    expect(await held()).toBe(0);
  });

  it('is held up to a bound, its own and that of all, and given back in every end', async () => {
    const { request, answered } = sender();
    request.write(`${FILE}${'x'.repeat(200 * KIB)}`);
    await until(async () => (await held()) >= 200 * KIB);
    const other = sender();
    other.request.write(`${FILE}${'x'.repeat(250 * KIB)}`);
    expect(await other.answered).toEqual({ status: 503, code: 'unavailable' });
    request.write('x'.repeat(100 * KIB));
    expect(await answered).toEqual({ status: 400, code: 'invalid_request' });
    for (const one of [request, other.request]) one.destroy();
    await until(async () => (await held()) === 0);
    expect(opened).toBe(0);
  });

  it('is not held where the path says the workload; a wrong field behind it still ends it', async () => {
    routed = (request) => request.resume();
    const { request, answered } = sender('/w');
    request.write(`${FILE}${'x'.repeat(1_000 * KIB)}`);
    await until(async () => opened === 1 && (await held()) === 0);
    request.end(`\r\n${part('response_format')}xml${END}`);
    expect(await answered).toEqual({ status: 400, code: 'invalid_request' });
    expect(ends).toMatchObject([{ outcome: 'error' }]);
  });
});

describe('memory', () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;

  it('does not grow with what a client sends to a worker that does not read', async () => {
    await gateway.close();
    router.close();
    await client.close();
    await start(BIG);
    let arrived: IncomingMessage | undefined;
    routed = (request) => (arrived = request);
    const { request } = sender();
    const chunk = Buffer.alloc(64 * KIB);
    let sent = 0;
    request.write(`${MODEL}${FILE}`);
    gc();
    const before = process.memoryUsage().arrayBuffers;
    const sending = (async () => {
      for (; sent < BIG / 2; sent += chunk.length)
        await new Promise<void>((resolve, reject) =>
          request.write(chunk, (error) => (error ? reject(error) : resolve())),
        );
    })().catch(() => {});
    await until(() => arrived !== undefined);
    // It comes to a stop by itself: sockets are full, and nobody in between takes more.
    let last = -1;
    await until(async () => {
      const still = sent === last;
      last = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return still;
    });
    expect(sent).toBeLessThan(BIG / 8);
    // Buffers are freed some time after the collection that finds them.
    await until(() => {
      gc();
      return process.memoryUsage().arrayBuffers - before < 2 * KIB * KIB;
    });
    request.destroy();
    await sending;
  });
});

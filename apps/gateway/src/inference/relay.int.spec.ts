import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { anOpenedRequest } from '@sluice/contracts/usage-record.fixture';
import { systemClock } from '@sluice/primitives/clock';
import type { ServiceTokens } from '@sluice/service-kit';
import fastify, { type FastifyInstance } from 'fastify';
import type { Journal } from '../journal/journal.service.js';
import type { Cut, Running } from '../keys/in-flight.js';
import type { Keys } from '../keys/keys.service.js';
import type { KnownKey } from '../keys/known-key.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import type { Admission } from './admission.service.js';
import { Exchange } from './exchange.js';
import { refuse } from './refuse.js';
import { Relay } from './relay.service.js';
import { RouterClient } from './router.client.js';

const USAGE = '"usage":{"prompt_tokens":7,"completion_tokens":3}';
const event = (fields: string) => `data: {"choices":[{"delta":{"content":"x"}}]${fields}}\n\n`;

/** The disk is slow on purpose: an answer that does not wait for it is caught. */
const DISK_MS = 200;
let ends: Omit<UsageRecord, 'seq'>[];
let onDisk: boolean;
let alive: boolean;
/** What asking again for a key without evidence says. */
let verdict: Rejected;
/** Of a stream in flight, between two chunks. */
let goesOn: () => Promise<void> | undefined;
let running: Running;
let cuts: Set<Cut>;
let results: string[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let router: Server;
let gateway: FastifyInstance;
let client: RouterClient;
let url: string;

beforeEach(async () => {
  ends = [];
  results = [];
  onDisk = false;
  alive = true;
  verdict = new Rejected('invalid_api_key');
  goesOn = () => undefined;
  cuts = new Set();
  router = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      response.setHeader('x-sluice-worker', 'worker-1');
      response.setHeader('x-sluice-attempt', '1');
      answer(request, response);
    });
  });
  await new Promise<void>((resolve) => router.listen(0, '127.0.0.1', resolve));
  const admission = {
    holds: () => (alive ? aKnownKey() : undefined),
    prove: async () => {
      throw verdict;
    },
  } as unknown as Admission;
  const keys = {
    track: (credential: KnownKey, cut: Cut) => {
      cuts.add(cut);
      running = { credential, cut, drained: false, askedAt: 0 };
      return { running, off: () => cuts.delete(cut) };
    },
    goesOn: () => goesOn(),
  } as unknown as Keys;
  const journal = {
    count: () => {},
    end: async (record: Omit<UsageRecord, 'seq'>) => {
      ends.push(record);
      await sleep(DISK_MS);
      onDisk = true;
    },
  } as unknown as Journal;
  const tokens = { headerFor: async () => 'Bearer t' } as unknown as ServiceTokens;
  client = new RouterClient(`http://127.0.0.1:${(router.address() as AddressInfo).port}`, tokens, admission);
  const relay = new Relay(client, admission, keys, journal);
  gateway = fastify();
  gateway.post('/', async (request, reply) => {
    const stream = request.headers['x-stream'] === '1';
    const exchange = new Exchange(anOpenedRequest({ stream }), systemClock.monotonic());
    const wish = { wantsUsage: false, wantsContinuousUsage: false };
    try {
      results.push(
        await relay.run({
          exchange,
          admitted: { digest: 'd', credential: aKnownKey(), use: { scope: 'inference:write', address: '127.0.0.1' } },
          request,
          reply,
          path: '/v1/chat/completions',
          body: Buffer.from('{}'),
          wish,
          stream,
          deadline: systemClock.monotonic() + 5_000,
        }),
      );
    } catch (error) {
      results.push((error as Rejected).code);
      refuse(reply, error as Rejected);
    }
  });
  url = await gateway.listen({ port: 0, host: '127.0.0.1' });
});
afterEach(async () => {
  router.closeAllConnections();
  router.close();
  await client.close();
  await gateway.close();
});

const post = (stream: boolean, signal: AbortSignal = AbortSignal.timeout(5_000)) =>
  fetch(url, { method: 'POST', headers: stream ? { 'x-stream': '1' } : {}, signal });
const sse = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' });

async function read(response: Response, each: (text: string) => void = () => {}): Promise<string> {
  let text = '';
  for await (const chunk of response.body!) {
    text += Buffer.from(chunk).toString();
    each(text);
  }
  return text;
}

describe('the relay', () => {
  it('sends the last byte of a stream only when its END is on the disk', async () => {
    answer = (_request, response) => {
      sse(response);
      response.end(`${event(`,${USAGE}`)}data: [DONE]\n\n`);
    };
    const text = await read(await post(true), (seen) => {
      if (seen.includes('[DONE]')) expect(onDisk).toBe(true);
    });
    expect(text).toBe(`${event('')}data: [DONE]\n\n`);
    expect(ends).toEqual([
      expect.objectContaining({
        outcome: 'ok',
        rank: 4,
        inputTokens: '7',
        outputTokens: '3',
        worker: 'worker-1',
        attempt: 1,
      }),
    ]);
  });

  it('sends nothing of a whole answer before its END is on the disk', async () => {
    answer = (_request, response) =>
      response.setHeader('content-type', 'application/json').end(`{"choices":[],${USAGE}}`);
    const response = await post(false);
    expect(onDisk).toBe(true);
    expect(await response.text()).toBe(`{"choices":[],${USAGE}}`);
  });

  it('delivers nothing on a key that was revoked while the worker thought, and has the worker stopped', async () => {
    const closed = Promise.withResolvers<void>();
    answer = (_request, response) => {
      alive = false;
      sse(response);
      const timer = setInterval(() => response.write(event(`,${USAGE}`)), 10);
      response.on('close', () => {
        clearInterval(timer);
        closed.resolve();
      });
    };
    const response = await post(true);
    expect(response.status).toBe(401);
    expect(await response.text()).not.toContain('choices');
    expect(ends).toHaveLength(1);
    await closed.promise;
  });

  it('delivers nothing of a whole answer when the key ended while its END was written', async () => {
    answer = (_request, response) => {
      response.setHeader('content-type', 'application/json').end(`{"choices":[],${USAGE}}`);
      setTimeout(() => (alive = false), DISK_MS / 2);
    };
    const response = await post(false);
    expect([response.status, await response.text()]).toEqual([401, expect.not.stringContaining('choices')]);
    expect(ends).toHaveLength(1);
  });

  it('answers a stream whose key ended before its first event with a 401, not with a stream', async () => {
    answer = (_request, response) => {
      sse(response);
      response.flushHeaders();
      setTimeout(() => (alive = false), 30);
      setTimeout(() => response.end(`${event(`,${USAGE}`)}data: [DONE]\n\n`), 60);
    };
    expect((await post(true)).status).toBe(401);
  });

  it("does not pass a worker's own refusal on for a key that has ended", async () => {
    answer = (_request, response) => {
      alive = false;
      response.statusCode = 400;
      response.end('{"error":{"message":"too long"}}');
    };
    expect((await post(false)).status).toBe(401);
  });

  it.each([
    ['ended with drain', 'invalid_api_key', 200],
    ['narrowed', 'scope_insufficient', 403],
  ] as const)('lets a request in flight on a key that was %s end with: %s, %i', async (_how, code, status) => {
    answer = (_request, response) => {
      running.drained = true;
      alive = false;
      verdict = new Rejected(code);
      response.setHeader('content-type', 'application/json').end(`{"choices":[],${USAGE}}`);
    };
    expect((await post(false)).status).toBe(status);
  });

  it('sends nothing on that a drain had let go before the dispatch', async () => {
    alive = false;
    let reached = false;
    answer = (_request, response) => {
      reached = true;
      response.end();
    };
    expect([(await post(false)).status, reached]).toEqual([401, false]);
  });

  it('asks for a stream without evidence before its next chunk, and cuts it when the answer is no', async () => {
    answer = (_request, response) => {
      sse(response);
      const timer = setInterval(() => response.write(event(`,${USAGE}`)), 20);
      response.on('close', () => clearInterval(timer));
    };
    const response = await post(true);
    setTimeout(() => (goesOn = async () => Promise.reject(new Rejected('invalid_api_key'))), 50);
    const text = await read(response);
    expect(text).toContain('"code":"invalid_api_key"');
    expect(text).not.toContain('[DONE]');
  });

  it('ends a stream that breaks off with an error event, no [DONE], and one END with the last count', async () => {
    answer = (_request, response) => {
      sse(response);
      response.write(event(`,${USAGE}`));
      setTimeout(() => response.destroy(), 200);
    };
    const text = await read(await post(true));
    expect(text).toContain('"code":"worker_error"');
    expect(text).not.toContain('[DONE]');
    expect(ends).toEqual([expect.objectContaining({ outcome: 'aborted', rank: 3, outputTokens: '3' })]);
  });

  it('takes a stream without [DONE] for a broken one', async () => {
    answer = (_request, response) => {
      sse(response);
      response.end(event(`,${USAGE}`));
    };
    expect(await read(await post(true))).toContain('"code":"worker_error"');
    expect(ends).toEqual([expect.objectContaining({ outcome: 'aborted' })]);
  });

  it('cuts a stream at once when its key is revoked, and lets the router know by closing', async () => {
    let closed = false;
    answer = (_request, response) => {
      sse(response);
      response.on('close', () => (closed = true));
      const timer = setInterval(() => response.write(event(`,${USAGE}`)), 10);
      response.on('close', () => clearInterval(timer));
    };
    const response = await post(true);
    setTimeout(() => {
      for (const cut of cuts) cut(new Rejected('invalid_api_key', 'The API key was revoked.'));
    }, 50);
    const text = await read(response);
    expect(text).toContain('"code":"invalid_api_key"');
    expect(closed).toBe(true);
    expect(ends).toHaveLength(1);
    expect(cuts.size).toBe(0);
  });

  it('closes the way to the router when the client goes, and meters what was generated', async () => {
    const closed = Promise.withResolvers<void>();
    answer = (_request, response) => {
      sse(response);
      const timer = setInterval(() => response.write(event(`,${USAGE}`)), 10);
      response.on('close', () => {
        clearInterval(timer);
        closed.resolve();
      });
    };
    const leave = new AbortController();
    const response = await post(true, leave.signal);
    await read(response, () => leave.abort()).catch(() => {});
    await closed.promise;
    while (results.length === 0) await sleep(10);
    expect(results).toEqual(['client_gone']);
    expect(ends).toEqual([expect.objectContaining({ outcome: 'aborted', outputTokens: '3' })]);
  });

  it.each([
    ['a refusal of the router', 503, '{"error":{"code":"unavailable","message":"x"}}', 503, 'unavailable'],
    [
      'what the router should not say to a client',
      401,
      '{"error":{"code":"invalid_api_key","message":"x"}}',
      502,
      'worker_error',
    ],
    ['what is no error of ours', 500, '<html>', 502, 'worker_error'],
  ])('maps %s', async (_what, status, body, expected, code) => {
    answer = (_request, response) => {
      response.removeHeader('x-sluice-worker');
      response.statusCode = status;
      response.end(body);
    };
    const response = await post(false);
    expect([response.status, ((await response.json()) as { error: { code: string } }).error.code]).toEqual([
      expected,
      code,
    ]);
    expect(ends).toEqual([expect.objectContaining({ outcome: 'error', inputTokens: '0', outputTokens: '0' })]);
  });

  it('is stopped by its deadline, whatever the other side does', async () => {
    answer = () => {};
    const response = await post(false, AbortSignal.timeout(20_000));
    expect(response.status).toBe(504);
  }, 15_000);

  it('answers a worker that sends no JSON with a clear error', async () => {
    answer = (_request, response) => response.setHeader('content-type', 'application/json').end('not json');
    const response = await post(false);
    expect(response.status).toBe(502);
    expect(ends).toEqual([expect.objectContaining({ outcome: 'error' })]);
  });
});

import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { describe, expect, it } from '@jest/globals';
import { until } from '@sluice/testing';
import {
  answers,
  call,
  errorOf,
  fails,
  fakeWorker,
  type Handler,
  hear,
  inWaiting,
  PATH,
  routerWith,
  SECRET,
  settled,
  token,
} from './inference.fixture.js';

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
    await until(() => inWaiting(1));
    expect((await call(router)).statusCode).toBe(503); // the one place is taken
    leaving.abort();
    await left;
    await until(() => inWaiting(0));
    // Its place is free again: the next one waits, and gets the worker that comes.
    const second = call(router);
    await until(() => inWaiting(1));
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
    let breakOff = () => {};
    const bad = await fakeWorker((incoming, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n');
      breakOff = () => incoming.socket.destroy();
    });
    const good = await fakeWorker(answers('{}'));
    const router = await routerWith([bad, good]);
    const response = await call(router);
    response.body.once('data', () => breakOff());
    await expect(once(response.body, 'end')).rejects.toThrow();
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

  it('counting tokens says nothing about generating: neither does it clear a worker that fails, nor convict one', async () => {
    const worker = await fakeWorker((incoming, response) => {
      const counts = incoming.url === '/tokenize' && incoming.headers['x-request-id'] === 'counted.1';
      return counts ? answers('{"count":1}')(incoming, response) : fails(500)(incoming, response);
    });
    const router = await routerWith([worker]);
    const state = () => router.workers.list()[0]!.state;
    for (let i = 0; i < 6; i++) await errorOf(await call(router, { path: '/tokenize' }));
    expect(state()).toBe('live');
    for (let i = 0; i < 5; i++) {
      await errorOf(await call(router));
      const counted = await call(router, { path: '/tokenize', headers: { 'x-request-id': 'counted' } });
      await counted.body.dump();
    }
    expect(state()).toBe('open');
  });

  it('a message is asked of workers that speak Messages alone, however often it has to be tried', async () => {
    const [openai, failing, good] = await Promise.all([
      fakeWorker(answers('{}')),
      fakeWorker(fails(500)),
      fakeWorker(answers('{"type":"message"}')),
    ]);
    const router = await routerWith([openai]);
    const path = '/v1/messages';
    expect(await errorOf(await call(router, { path }))).toMatchObject({ status: 503, code: 'unavailable' });
    for (const [id, { url }] of [
      ['m1', failing],
      ['m2', good],
    ] as const)
      hear(router.workers, id, url, ['m'], ['messages']);
    for (let i = 0; i < 4; i++) {
      const headers = { 'anthropic-version': '2023-06-01', 'anthropic-beta': 'b', 'x-api-key': 'k' };
      const response = await call(router, { path, headers });
      expect(await response.body.json()).toEqual({ type: 'message' });
    }
    expect(openai.seen).toHaveLength(0);
    expect(good.seen[0]!.headers).toMatchObject({ 'anthropic-version': '2023-06-01', 'anthropic-beta': 'b' });
    expect(good.seen[0]!.headers).not.toHaveProperty('x-api-key');
    expect((await call(router)).statusCode).toBe(200);
    expect(openai.seen).toHaveLength(1);
  });

  it('all full: 429 with the worker’s own word on when to come back', async () => {
    const router = await routerWith([await fakeWorker(fails(429, { 'retry-after': '7' }))]);
    expect(await errorOf(await call(router))).toEqual({ status: 429, code: 'queue_full', retryAfter: '7' });
  });
});

describe('load', () => {
  it('simultaneous requests are spread by what this router has running, not by what workers report', async () => {
    const open: ServerResponse[] = [];
    const slow: Handler = (_, response) => void open.push(response);
    const workers = await Promise.all([1, 2, 3].map(() => fakeWorker(slow)));
    const router = await routerWith(workers);
    const calls = Array.from({ length: 9 }, () => call(router));
    await until(() => open.length === 9);
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

import { describe, expect, it } from '@jest/globals';
import { until } from '@sluice/testing';
import { answers, call, errorOf, fakeWorker, rawWorker, routerWith, settled, token } from './inference.fixture.js';

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
    const router = await routerWith([before], { waitMs: 60_000 });
    await before.close();
    const pending = call(router);
    await until(() => router.workers.list()[0]!.state === 'suspect');
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
    // On a machine that stands still it may pass before the worker is asked.
    while (worker.seen.length === 0) {
      const response = await call(router, { headers: { 'x-sluice-deadline-ms': '500' } });
      expect(await errorOf(response)).toMatchObject({ status: 504, code: 'timeout' });
    }
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
    const begun = () => call(router, { headers: { 'x-sluice-deadline-ms': '1000' } });
    let response = await begun();
    // On a machine that stands still it may pass before.
    for (; response.statusCode === 504; response = await begun()) await response.body.dump();
    await expect(response.body.text()).rejects.toThrow();
    await isCut;
    await settled(router);
  });

  it('a worker that never begins is left for another one', async () => {
    const stuck = await fakeWorker(() => undefined);
    const router = await routerWith([stuck, await fakeWorker(answers('{}'))], { headersTimeoutMs: 3_000 });
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
    expect(await errorOf(response)).toMatchObject({ status: 401, code: 'invalid_service_token' });
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
    await until(() => worker.seen.length === 1);
    expect(await errorOf(await call(router))).toMatchObject({ status: 429, code: 'queue_full', retryAfter: '1' });
    finish();
    await (await first).body.dump();
    const third = call(router);
    await until(() => worker.seen.length === 2);
    finish();
    expect((await third).statusCode).toBe(200);
  });
});

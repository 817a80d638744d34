import { Readable } from 'node:stream';
import { describe, expect, it } from '@jest/globals';
import { until } from '@sluice/testing';
import { answers, call, errorOf, fails, fakeWorker, rawWorker, routerWith, settled } from './inference.fixture.js';

const path = '/v1/audio/transcriptions';
const headers = { 'content-type': 'multipart/form-data; boundary=b' };
const CHUNK = Buffer.alloc(64 * 1024, 7);

/** A sender whose chunks are counted as they are taken from it, and that waits where the test says. */
function upload(chunks: number, wait: (sent: number) => Promise<void> | undefined = () => undefined) {
  const sender = { sent: 0, body: undefined as unknown as Readable };
  async function* produce() {
    for (; sender.sent < chunks; sender.sent++) {
      await wait(sender.sent);
      yield CHUNK;
    }
  }
  sender.body = Readable.from(produce(), { objectMode: false });
  return sender;
}

describe('a file that is uploaded', () => {
  it('passes through while it is still being sent, byte for byte, with its own type', async () => {
    let bytes = 0;
    let type: string | undefined;
    const worker = await fakeWorker(async (incoming, response) => {
      type = incoming.headers['content-type'];
      for await (const chunk of incoming) bytes += (chunk as Buffer).length;
      response.end('{"text":"a"}');
    });
    // The rest is only sent when the worker has the beginning: a router that held it back would wait for ever.
    const { body } = upload(40, (sent) => (sent === 4 ? until(async () => bytes > 0) : undefined));
    const answer = await call(await routerWith([worker]), { path, headers, body });
    expect([answer.statusCode, await answer.body.text()]).toEqual([200, '{"text":"a"}']);
    expect([bytes, type]).toEqual([40 * CHUNK.length, headers['content-type']]);
  });

  it('goes whole to another worker where the first refused the connection, as nothing of it was sent', async () => {
    const gone = await fakeWorker(answers('gone'));
    let bytes = 0;
    const there = await fakeWorker(async (incoming, response) => {
      for await (const chunk of incoming) bytes += (chunk as Buffer).length;
      response.end('{}');
    });
    const router = await routerWith([gone, there]);
    await gone.close();
    const answer = await call(router, { path, headers, body: upload(8).body });
    expect([answer.statusCode, answer.headers['x-sluice-worker'], bytes]).toEqual([200, 'w2', 8 * CHUNK.length]);
    await answer.body.dump();
  });

  it.each([
    ['fails', () => fakeWorker(fails(500)), 502, 'worker_error'],
    ['is full', () => fakeWorker(fails(429)), 429, 'queue_full'],
    ['breaks off', () => rawWorker((socket) => void socket.destroy()), 503, 'unavailable'],
  ])('is sent once: a worker that %s in its midst is told of, and no other is asked', async (_, make, status, code) => {
    const other = await fakeWorker(answers('{}'));
    const router = await routerWith([await make(), other]);
    // Placement takes the first of two idle ones with this randomness.
    const answer = await call(router, { path, headers, body: upload(8).body });
    expect(await errorOf(answer)).toMatchObject({ status, code });
    expect(other.seen).toHaveLength(0);
    await settled(router);
  });

  it('that its sender breaks off is cancelled at the worker, which is not taken for broken', async () => {
    let cancelled = false;
    const worker = await fakeWorker((incoming) => {
      incoming.resume().on('close', () => (cancelled = !incoming.complete));
    });
    const router = await routerWith([worker]);
    const { body } = upload(10_000, (sent) =>
      sent === 20 ? Promise.reject(new Error('the sender is gone')) : undefined,
    );
    await expect(call(router, { path, headers, body })).rejects.toThrow();
    await until(async () => cancelled);
    await settled(router);
    expect(router.workers.list()).toMatchObject([{ state: 'live' }]);
  });

  it('is taken no faster than the worker reads: a stalled one holds the sender back', async () => {
    let goOn: () => void = () => undefined;
    let bytes = 0;
    const worker = await fakeWorker(async (incoming, response) => {
      await new Promise<void>((resolve) => (goOn = resolve));
      for await (const chunk of incoming) bytes += (chunk as Buffer).length;
      response.end('{}');
    });
    const chunks = 1_024;
    const sender = upload(chunks);
    const answering = call(await routerWith([worker]), { path, headers, body: sender.body });
    await until(async () => worker.seen.length === 1);
    // It comes to a stop by itself, long before its end.
    let before = -1;
    await until(async () => {
      const still = sender.sent === before;
      before = sender.sent;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return still && sender.sent > 0;
    });
    expect(sender.sent).toBeLessThan(chunks / 2);
    goOn();
    const answer = await answering;
    await answer.body.dump();
    expect(bytes).toBe(chunks * CHUNK.length);
  });
});

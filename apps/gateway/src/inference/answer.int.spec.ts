import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Pool } from 'undici';
import { Answer } from './answer.js';

let server: Server;
let pool: Pool;
let handle: (response: ServerResponse) => void;

beforeEach(async () => {
  server = createServer((_, response) => handle(response)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  pool = new Pool(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { connections: 1 });
});
afterEach(async () => {
  await pool.destroy();
  server.closeAllConnections();
  server.close();
});

const ask = (signal = new AbortController().signal): Answer => {
  const answer = new Answer(signal);
  pool.dispatch({ method: 'POST', path: '/', body: 'x' }, answer);
  return answer;
};

describe('an answer of the router', () => {
  it('is its head, and then all of its bytes', async () => {
    handle = (response) => {
      response.writeHead(418, { 'x-note': 'n' });
      response.write('one ');
      setImmediate(() => response.end('two'));
    };
    const answer = await ask().head;
    expect([answer.statusCode, answer.headers['x-note']]).toEqual([418, 'n']);
    expect((await answer.whole(100)).toString()).toBe('one two');
    handle = (response) => response.writeHead(204).end();
    expect(await (await ask().head).whole(0)).toHaveLength(0);
  });

  it('comes in pieces, whose bytes are those that were sent', async () => {
    const sent = Array.from({ length: 300 }, (_, i) => `${i} `.repeat(500));
    handle = (response) => {
      for (const piece of sent) response.write(piece);
      response.end();
    };
    const got: Buffer[] = [];
    for await (const piece of await ask().head) got.push(piece);
    expect(Buffer.concat(got).toString()).toBe(sent.join(''));
  });

  it('is not read faster than it is taken', async () => {
    const piece = Buffer.alloc(64 * 1024);
    let written = 0;
    handle = (response) => {
      const write = (): void => {
        while (written < 256) {
          written++;
          if (response.write(piece)) continue;
          response.once('drain', write);
          return;
        }
        response.end();
      };
      write();
    };
    const answer = await ask().head;
    // Whatever the systems' own buffers hold, it is not 16 MB.
    let before = -1;
    while (written !== before) {
      before = written;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(written).toBeLessThan(256);
    let length = 0;
    for await (const bytes of answer) length += bytes.length;
    expect(length).toBe(256 * piece.length);
  });

  it('that is longer than it may be is given up, and so is one that is left', async () => {
    for (const leave of [
      (answer: Answer) => expect(answer.whole(1_000)).rejects.toMatchObject({ code: 'worker_error' }),
      async (answer: Answer) => {
        for await (const _ of answer) break;
      },
    ]) {
      const closed = Promise.withResolvers<void>();
      handle = (response) => {
        response.once('close', closed.resolve);
        response.write('x'.repeat(2_000));
      };
      await leave(await ask().head);
      await closed.promise;
    }
  });

  it('that breaks off is an error, whoever reads it and when', async () => {
    handle = (response) => {
      response.write('half');
      setImmediate(() => response.destroy());
    };
    await expect((await ask().head).whole(100)).rejects.toThrow();
    const late = await ask().head;
    await new Promise((resolve) => setTimeout(resolve, 50));
    await expect(late.whole(100)).rejects.toThrow();
  });

  it('is given up with the reason of its signal: before it was sent, without an answer, and half way', async () => {
    const reason = new Error('gone');
    const abort = new AbortController();
    const seen = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    handle = (response) => {
      seen.resolve();
      response.once('close', closed.resolve);
    };
    const silent = ask(abort.signal);
    await seen.promise;
    const waiting = ask(abort.signal);
    abort.abort(reason);
    await expect(waiting.head).rejects.toBe(reason);
    await expect(silent.head).rejects.toBe(reason);
    await closed.promise;

    const half = new AbortController();
    handle = (response) => void response.write('half');
    const answer = await ask(half.signal).head;
    half.abort(reason);
    await expect(answer.whole(100)).rejects.toBe(reason);
  });
});

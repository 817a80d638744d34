import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { deaf, event, post, read, relayWorld, sse, USAGE } from './relay.fixture.js';

const world = relayWorld();

describe('the relay', () => {
  it('sends the last byte of a stream only when its END is on the disk', async () => {
    world.answer = (_request, response) => {
      sse(response);
      response.end(`${event(`,${USAGE}`)}data: [DONE]\n\n`);
    };
    const text = await read(await post(true), (seen) => {
      if (seen.includes('[DONE]')) expect(world.onDisk).toBe(true);
    });
    expect(text).toBe(`${event('')}data: [DONE]\n\n`);
    expect(world.ends).toEqual([
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
    world.answer = (_request, response) =>
      response.setHeader('content-type', 'application/json').end(`{"choices":[],${USAGE}}`);
    const response = await post(false);
    expect(world.onDisk).toBe(true);
    expect(await response.text()).toBe(`{"choices":[],${USAGE}}`);
  });

  it('records what was thought of an output and the vectors that were answered, where the worker tells', async () => {
    const answers = [
      '{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":2}}}',
      '{"object":"list","data":[{"embedding":[0]},{"embedding":[1]}],"usage":{"prompt_tokens":7,"total_tokens":7}}',
      `{"choices":[],${USAGE}}`,
    ];
    for (const answer of answers) {
      world.answer = (_request, response) => response.setHeader('content-type', 'application/json').end(answer);
      expect(await (await post(false)).text()).toBe(answer);
    }
    expect(world.ends.map(({ reasoningTokens, embeddings }) => [reasoningTokens, embeddings])).toEqual([
      ['2', undefined],
      [undefined, '2'],
      [undefined, undefined],
    ]);
  });

  it('delivers nothing on a key that was revoked while the worker thought, and has the worker stopped', async () => {
    const closed = Promise.withResolvers<void>();
    world.answer = (_request, response) => {
      world.alive = false;
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
    expect(world.ends).toHaveLength(1);
    await closed.promise;
  });

  it('delivers nothing of a whole answer when the key ended while its END was written', async () => {
    world.answer = (_request, response) => {
      response.setHeader('content-type', 'application/json').end(`{"choices":[],${USAGE}}`);
    };
    world.onEnd = () => (world.alive = false);
    const response = await post(false);
    expect([response.status, await response.text()]).toEqual([401, expect.not.stringContaining('choices')]);
    expect(world.ends).toHaveLength(1);
  });

  it('answers a stream whose key ended before its first event with a 401, not with a stream', async () => {
    world.answer = (_request, response) => {
      sse(response);
      response.flushHeaders();
      setTimeout(() => (world.alive = false), 30);
      setTimeout(() => response.end(`${event(`,${USAGE}`)}data: [DONE]\n\n`), 60);
    };
    expect((await post(true)).status).toBe(401);
  });

  it("does not pass a worker's own refusal on for a key that has ended", async () => {
    world.answer = (_request, response) => {
      world.alive = false;
      response.statusCode = 400;
      response.end('{"error":{"message":"too long"}}');
    };
    expect((await post(false)).status).toBe(401);
  });

  it.each([
    ['ended with drain', 'invalid_api_key', 200],
    ['narrowed', 'scope_insufficient', 403],
  ] as const)('lets a request in flight on a key that was %s end with: %s, %i', async (_how, code, status) => {
    world.answer = (_request, response) => {
      world.running.drained = true;
      world.alive = false;
      world.verdict = new Rejected(code);
      response.setHeader('content-type', 'application/json').end(`{"choices":[],${USAGE}}`);
    };
    expect((await post(false)).status).toBe(status);
  });

  it('sends nothing on that a drain had let go before the dispatch', async () => {
    world.alive = false;
    let reached = false;
    world.answer = (_request, response) => {
      reached = true;
      response.end();
    };
    expect([(await post(false)).status, reached]).toEqual([401, false]);
  });

  it('asks for a stream without evidence before its next chunk, and cuts it when the answer is no', async () => {
    world.answer = (_request, response) => {
      sse(response);
      const timer = setInterval(() => response.write(event(`,${USAGE}`)), 20);
      response.on('close', () => clearInterval(timer));
    };
    const response = await post(true);
    setTimeout(() => (world.goesOn = async () => Promise.reject(new Rejected('invalid_api_key'))), 50);
    const text = await read(response);
    expect(text).toContain('"code":"invalid_api_key"');
    expect(text).not.toContain('[DONE]');
  });

  it('ends a stream that breaks off with an error event, no [DONE], and one END with the last count', async () => {
    let breakOff = () => {};
    world.answer = (_request, response) => {
      sse(response);
      response.write(event(`,${USAGE}`));
      breakOff = () => response.destroy();
    };
    const text = await read(await post(true), () => breakOff());
    expect(text).toContain('"code":"worker_error"');
    expect(text).not.toContain('[DONE]');
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', rank: 3, outputTokens: '3' })]);
  });

  it('says nothing of what a worker sends behind the end of a stream', async () => {
    world.answer = (_request, response) => {
      sse(response);
      response.end(`${event(`,${USAGE}`)}data: [DONE]\n\ndata: [DONE]\n\n${event(',"late":1')}`);
    };
    const text = await read(await post(true));
    expect(text).not.toContain('late');
    expect(text.match(/\[DONE\]/g)).toHaveLength(1);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', outputTokens: '3' })]);
  });

  it.each(['null', '7', '"text"', '[]'])('takes the answer %s for none', async (answer) => {
    world.answer = (_request, response) => {
      response.setHeader('content-type', 'application/json').end(answer);
    };
    expect((await post(false)).status).toBe(502);
  });

  it.each(['<html>Not Found</html>', '', 'null'])(
    "gives a worker's refusal that SDKs cannot read (%s) a body that they can",
    async (page) => {
      world.answer = (_request, response) => {
        response.writeHead(404, { 'content-type': 'text/html' }).end(page);
      };
      const response = await post(false);
      expect([response.status, response.headers.get('content-type')]).toEqual([404, 'application/json; charset=utf-8']);
      expect(await response.json()).toMatchObject({ error: { code: 'invalid_request' } });
    },
  );

  it('takes a client that reads nothing to be gone after a while, and holds no worker for it', async () => {
    const gone = new Promise<void>((resolve) => {
      world.answer = (_request, response) => {
        sse(response);
        const long = event(`,"x":"${'x'.repeat(100_000)}",${USAGE}`);
        const more = () => {
          while (response.write(long)) continue;
        };
        response.on('drain', more).on('close', resolve);
        more();
      };
    });
    const client = deaf();
    await gone;
    while (world.results.length === 0) await sleep(10);
    expect(world.results).toEqual(['client_gone']);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', rank: 3, outputTokens: '3' })]);
    client.destroy();
  });

  it('takes a stream without [DONE] for a broken one', async () => {
    world.answer = (_request, response) => {
      sse(response);
      response.end(event(`,${USAGE}`));
    };
    expect(await read(await post(true))).toContain('"code":"worker_error"');
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted' })]);
  });

  it('cuts a stream at once when its key is revoked, and lets the router know by closing', async () => {
    const closed = Promise.withResolvers<void>();
    world.answer = (_request, response) => {
      sse(response);
      const timer = setInterval(() => response.write(event(`,${USAGE}`)), 10);
      response.on('close', () => {
        clearInterval(timer);
        closed.resolve();
      });
    };
    const response = await post(true);
    setTimeout(() => {
      for (const cut of world.cuts) cut(new Rejected('invalid_api_key', 'The API key was revoked.'));
    }, 50);
    const text = await read(response);
    expect(text).toContain('"code":"invalid_api_key"');
    await closed.promise;
    expect(world.ends).toHaveLength(1);
    expect(world.cuts.size).toBe(0);
  });

  it('closes the way to the router when the client goes, and meters what was generated', async () => {
    const closed = Promise.withResolvers<void>();
    world.answer = (_request, response) => {
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
    while (world.results.length === 0) await sleep(10);
    expect(world.results).toEqual(['client_gone']);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', outputTokens: '3' })]);
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
    world.answer = (_request, response) => {
      response.removeHeader('x-sluice-worker');
      response.statusCode = status;
      response.end(body);
    };
    const response = await post(false);
    expect([response.status, ((await response.json()) as { error: { code: string } }).error.code]).toEqual([
      expected,
      code,
    ]);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'error', inputTokens: '0', outputTokens: '0' })]);
  });

  it('is stopped by its deadline, whatever the other side does', async () => {
    world.answer = () => {};
    world.deadlineMs = 500;
    const response = await post(false);
    expect(response.status).toBe(504);
  });

  it('answers a worker that sends no JSON with a clear error', async () => {
    world.answer = (_request, response) => response.setHeader('content-type', 'application/json').end('not json');
    const response = await post(false);
    expect(response.status).toBe(502);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'error' })]);
  });
});

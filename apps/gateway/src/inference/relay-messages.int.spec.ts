import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { PASSED, post, read, relayWorld, sse } from './relay.fixture.js';

const world = relayWorld();
const say = (type: string, fields = '') => `event: ${type}\ndata: {"type":"${type}"${fields}}\n\n`;
const START = say('message_start', ',"message":{"id":"msg_its","usage":{"input_tokens":3,"output_tokens":1}}');
const piece = say('content_block_delta', ',"index":0,"delta":{"type":"text_delta","text":"x"}');
const usage = '{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":3}';
const DELTA = say('message_delta', `,"delta":{"stop_reason":"end_turn"},"usage":${usage}`);
const STOP = say('message_stop');
const counted = { inputTokens: '7', cachedInputTokens: '4', outputTokens: '3', estimated: false, rank: 4 };

describe('a message of a worker that speaks them', () => {
  it('as a stream comes byte for byte, its message_stop only when the END is on the disk', async () => {
    const odd = 'event:ping\r\ndata:  {"type" : "ping"}\r\n\r\n';
    const whole = START + odd + piece + piece + DELTA + STOP;
    world.answer = (_request, response) => {
      sse(response);
      // Cut where no event ends.
      response.write(whole.slice(0, 200));
      setTimeout(() => response.end(`${whole.slice(200)}data: [DONE]\n\n`), 20);
    };
    const response = await post(true, undefined, PASSED);
    const text = await read(response, (seen) => {
      if (seen.includes('message_stop')) expect(world.onDisk).toBe(true);
    });
    expect(text).toBe(whole);
    expect(response.headers.get('request-id')).toBe(response.headers.get('x-request-id'));
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', ...counted })]);
  });

  it('as a whole comes byte for byte, and is charged by what it says', async () => {
    const answer = `{"type" : "message","usage":${usage}}`;
    world.answer = (_request, response) => response.setHeader('content-type', 'application/json').end(answer);
    expect(await (await post(false, undefined, PASSED)).text()).toBe(answer);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', ...counted })]);
  });

  it('that its client leaves is metered by what came until then, and says that this is an estimate', async () => {
    let sent = 0;
    world.answer = (_request, response) => {
      sse(response).write(START);
      const timer = setInterval(() => response.write(piece) && sent++, 10);
      response.on('close', () => clearInterval(timer));
    };
    const leave = new AbortController();
    const response = await post(true, leave.signal, PASSED);
    await read(response, (text) => text.split('event:').length > 6 && leave.abort()).catch(() => {});
    while (world.results.length === 0) await sleep(10);
    const [record] = world.ends;
    expect(record).toMatchObject({ outcome: 'aborted', rank: 2, estimated: true, inputTokens: '3' });
    expect(Number(record!.outputTokens)).toBeGreaterThanOrEqual(5);
    expect(Number(record!.outputTokens)).toBeLessThanOrEqual(sent);
  });

  it.each([
    ['breaks off', ''],
    ['reports an error', say('error', ',"error":{"type":"x","message":"the prompt"}')],
    ['sends what is no JSON', 'data: {"type":\n\n'],
  ])('as a stream that %s ends with an error of the dialect, in our words and with our id', async (_what, more) => {
    world.answer = (_request, response) => {
      sse(response).write(START + piece);
      setTimeout(() => response.end(more), 50);
    };
    const response = await post(true, undefined, PASSED);
    const [head, last] = (await read(response)).split('event: error\ndata: ');
    expect(head).toBe(START + piece);
    const request_id = response.headers.get('request-id');
    expect(JSON.parse(last!)).toMatchObject({ type: 'error', error: { type: 'api_error' }, request_id });
    expect(last).not.toContain('the prompt');
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', outputTokens: '1', estimated: true })]);
  });

  it('that the worker refuses has its sentence, and the type and id that clients look at', async () => {
    const its = '{"type":"error","error":{"type":"BadRequestError","message":"too long"},"request_id":"its own"}';
    world.answer = (_request, response) => response.writeHead(400).end(its);
    const response = await post(false, undefined, PASSED);
    const error = { type: 'invalid_request_error', message: 'too long' };
    const problem = { type: 'error', error, request_id: response.headers.get('request-id') };
    expect([response.status, await response.json()]).toEqual([400, problem]);
  });
});

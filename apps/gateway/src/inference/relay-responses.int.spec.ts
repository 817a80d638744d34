import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { post, read, relayWorld, sse } from './relay.fixture.js';

const world = relayWorld();
const PATH = '/v1/responses';
const piece = (sequence: number) =>
  `event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x","sequence_number":${sequence}}\n\n`;
const usage = '{"input_tokens":7,"input_tokens_details":{"cached_tokens":4},"output_tokens":3}';
const end = (type: string) => `event: ${type}\ndata: {"type":"${type}","response":{"usage":${usage}}}\n\n`;
const counted = { inputTokens: '7', cachedInputTokens: '4', outputTokens: '3', estimated: false, rank: 4 };

describe('a response', () => {
  it.each(['response.completed', 'response.incomplete'])(
    'as a stream comes byte for byte, its %s only when the END is on the disk',
    async (type) => {
      world.answer = (_request, response) => {
        sse(response);
        response.write(piece(0));
        response.end(end(type));
      };
      const text = await read(await post(true, undefined, PATH), (seen) => {
        if (seen.includes(type)) expect(world.onDisk).toBe(true);
      });
      expect(text).toBe(piece(0) + end(type));
      expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', ...counted })]);
    },
  );

  it('as a whole is charged by what it says', async () => {
    const answer = `{"object":"response","usage":${usage}}`;
    world.answer = (_request, response) => response.setHeader('content-type', 'application/json').end(answer);
    expect(await (await post(false, undefined, PATH)).text()).toBe(answer);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', ...counted })]);
  });

  it('that its client leaves is metered by what came until then, and says that this is an estimate', async () => {
    let sent = 0;
    world.answer = (_request, response) => {
      sse(response);
      const timer = setInterval(() => response.write(piece(sent++)), 10);
      response.on('close', () => clearInterval(timer));
    };
    const leave = new AbortController();
    const response = await post(true, leave.signal, PATH);
    await read(response, (text) => text.split('event:').length > 5 && leave.abort()).catch(() => {});
    while (world.results.length === 0) await sleep(10);
    const [record] = world.ends;
    expect(record).toMatchObject({ outcome: 'aborted', rank: 2, estimated: true, inputTokens: '4' });
    expect(Number(record!.outputTokens)).toBeGreaterThanOrEqual(5);
    expect(Number(record!.outputTokens)).toBeLessThanOrEqual(sent);
  });

  it('that breaks off ends with an error event of its dialect, with the next number', async () => {
    let breakOff = () => {};
    world.answer = (_request, response) => {
      sse(response);
      response.write(piece(0) + piece(1));
      breakOff = () => response.destroy();
    };
    const text = await read(await post(true, undefined, PATH), (seen) => seen.endsWith(piece(1)) && breakOff());
    const last = text.trimEnd().split('\n\n').at(-1)!;
    expect(last).toMatch(/^event: error\ndata: /);
    expect(JSON.parse(last.split('data: ')[1]!)).toMatchObject({
      type: 'error',
      code: 'worker_error',
      sequence_number: 2,
    });
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', outputTokens: '2', estimated: true })]);
  });
});

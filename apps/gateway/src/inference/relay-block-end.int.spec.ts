import { describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { reservedOf } from '../keys/reserved.js';
import { accumulated, eventsOf } from '../messages/message-stream.fixture.js';
import { BlockOver } from './block-end.service.js';
import { LengthEnd } from './length-end.js';
import { PASSED, post, read, relayWorld, sse, USAGE } from './relay.fixture.js';

const world = relayWorld();
const reserved = reservedOf({ id: 's1', hours: [8], goodUntil: '2099-01-01T00:00:00.000Z' });
const over = () => world.cuts.forEach((cut) => cut(new BlockOver(reserved, Date.parse('2026-03-01T09:00:00.000Z'))));
const OUTSIDE = 'outside_reserved_block';
const chunk = (fields = '') =>
  `data: {"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"content":"x"}}]${fields}}\n\n`;

/** A worker that says one thing and then nothing; `closed`: it was told to stop. */
function silent(first: string) {
  const closed = Promise.withResolvers<void>();
  world.answer = (_request, response) => {
    sse(response);
    response.write(first);
    response.on('close', () => closed.resolve());
  };
  return closed.promise;
}

describe('a stream whose reserved block is over', () => {
  it('ends with finish_reason "length" and [DONE], when its END is on the disk, and the worker is stopped', async () => {
    const closed = silent(chunk(`,${USAGE}`));
    world.lengthEnd = new LengthEnd({}, true);
    const text = await read(await post(true), (seen) => {
      if (seen.includes('[DONE]')) expect(world.onDisk).toBe(true);
      else over();
    });
    const [first, last, usage, done] = text.split('\n\n');
    expect(`${first}\n\n`).toBe(chunk());
    expect(JSON.parse(last!.slice('data: '.length))).toMatchObject({
      id: 'c1',
      choices: [{ index: 0, delta: {}, finish_reason: 'length' }],
    });
    expect(usage).toContain('"total_tokens":10');
    expect(done).toBe('data: [DONE]');
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', rank: 3, outputTokens: '3' })]);
    expect(world.results).toEqual(['ok']);
    await closed;
  });

  it('is no whole answer where its key was revoked: that is an error, as for every key', async () => {
    void silent(chunk(`,${USAGE}`));
    world.lengthEnd = new LengthEnd({}, false);
    const text = await read(await post(true), (seen) => {
      if (!seen.includes('error')) world.cuts.forEach((cut) => cut(new Rejected('invalid_api_key')));
    });
    expect(text).toContain('invalid_api_key');
    expect(text).not.toContain('[DONE]');
    expect(text).not.toContain('"length"');
  });

  it('ends a translated one as max_tokens does', async () => {
    void silent(chunk(`,${USAGE}`));
    world.lengthEnd = new LengthEnd({}, false);
    const text = await read(await post(true, undefined, '/v1/messages'), (seen) => {
      if (seen.includes('"text":"x"') && !seen.includes('message_stop')) over();
    });
    expect(accumulated(eventsOf(text))).toMatchObject({
      content: [{ type: 'text', text: 'x' }],
      stop_reason: 'max_tokens',
      usage: { output_tokens: 3 },
    });
  });

  it('ends one of another shape with an error that says why', async () => {
    void silent('event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":7}}}\n\n');
    const text = await read(await post(true, undefined, PASSED), (seen) => {
      if (!seen.includes('event: error')) over();
    });
    expect(eventsOf(text).at(-1)).toMatchObject({ type: 'error', error: { type: 'rate_limit_error' } });
    expect(world.results).toEqual([OUTSIDE]);
  });

  it('is refused where it has not begun, with the seconds to the next block', async () => {
    world.lengthEnd = new LengthEnd({}, false);
    world.answer = () => over();
    const response = await post(true);
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, String(23 * 3600 - 120)]);
    expect(response.headers.get('x-should-retry')).toBe('false');
    expect(await response.json()).toMatchObject({ error: { code: OUTSIDE } });
  });
});

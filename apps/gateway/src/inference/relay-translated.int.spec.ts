import { describe, expect, it } from '@jest/globals';
import { accumulated, eventsOf } from '../messages/message-stream.fixture.js';
import { event, post, read, relayWorld, sse, USAGE } from './relay.fixture.js';

const world = relayWorld();

describe('the relay of a dialect that workers do not speak', () => {
  const messages = (stream: boolean) => post(stream, undefined, '/v1/messages');

  it('sends the text as it comes, and message_stop only when its END is on the disk', async () => {
    let goOn = () => {};
    world.answer = (_request, response) => {
      sse(response);
      response.write(event(`,${USAGE}`));
      goOn = () => response.end(`data: {"choices":[],${USAGE}}\n\ndata: [DONE]\n\n`);
    };
    let before = '';
    const response = await messages(true);
    const text = await read(response, (seen) => {
      if (seen.includes('message_stop')) expect(world.onDisk).toBe(true);
      else before = seen;
      if (seen.includes('"text":"x"')) goOn();
    });
    expect(before).toContain('"text":"x"');
    expect(response.headers.get('request-id')).toBe(response.headers.get('x-request-id'));
    expect(accumulated(eventsOf(text))).toMatchObject({
      content: [{ type: 'text', text: 'x' }],
      usage: { input_tokens: 7, output_tokens: 3 },
    });
    expect(text).not.toContain('[DONE]');
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', rank: 4, outputTokens: '3' })]);
  });

  it('answers without a stream when the END is on the disk', async () => {
    world.answer = (_request, response) =>
      response
        .setHeader('content-type', 'text/plain')
        .end(`{"model":"m","choices":[{"message":{"content":"x"},"finish_reason":"length"}],${USAGE}}`);
    const response = await messages(false);
    expect(world.onDisk).toBe(true);
    expect(response.headers.get('content-type')).toMatch(/^application\/json/);
    expect(await response.json()).toMatchObject({ content: [{ text: 'x' }], stop_reason: 'max_tokens' });
  });

  it.each([
    ['breaks off', ''],
    ['reports an error', 'data: {"error":{"message":"prompt"}}\n\n'],
    ['sends what is no chunk', 'data: {"choices":1}\n\n'],
  ])('ends a stream that %s with an error of the dialect, and no message_stop', async (_what, more) => {
    let goOn = () => {};
    world.answer = (_request, response) => {
      sse(response);
      response.write(event(`,${USAGE}`));
      goOn = () => response.end(more);
    };
    const seen = await read(await messages(true), (text) => text.includes('"text":"x"') && goOn());
    const last = eventsOf(seen).at(-1);
    expect(last).toMatchObject({ type: 'error', error: { type: 'api_error' }, request_id: expect.any(String) });
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', rank: 3, outputTokens: '3' })]);
  });

  it.each([
    [400, '{"error":{"message":"too long"}}', 400, 'invalid_request_error', 'too long'],
    [404, '<html>', 404, 'not_found_error', 'The worker refused the request.'],
    [200, '{"choices":[]}', 502, 'api_error', 'The worker sent what cannot be read.'],
  ])("says a worker's %i (%s) in the dialect: %i", async (status, body, expected, type, message) => {
    world.answer = (_request, response) => response.writeHead(status, { 'content-type': 'text/html' }).end(body);
    const response = await messages(false);
    expect([response.status, await response.json()]).toEqual([
      expected,
      { type: 'error', error: { type, message }, request_id: response.headers.get('request-id') },
    ]);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'error' })]);
  });
});

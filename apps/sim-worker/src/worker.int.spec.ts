import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { connect } from 'node:net';
import { workerHeartbeatSchema } from '@sluice/contracts/router';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import OpenAI from 'openai';
import { MODEL, SECRET, startWorker, until, type Harness } from './testing/worker-harness.js';

/** 10 ms a token: slow enough to be interrupted, whatever the machine. */
const SLOW = { DECODE_MS: '10' };

let sim: Harness;
afterEach(() => sim.stop());

const exact = (n: number, more: object = {}) => ({
  model: MODEL,
  messages: [{ role: 'user', content: 'Say something.' }],
  max_tokens: n,
  min_tokens: n,
  ignore_eos: true,
  ...more,
});
const PROMPT = countTokens('Say something.');
const streamed = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };

/** Reads events until the stream ends or breaks. */
async function eventsOf(
  response: Response,
): Promise<{ events: { usage?: { completion_tokens: number } }[]; whole: boolean }> {
  let text = '';
  try {
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) text += part;
  } catch {
    // Cut: what came is what counts.
  }
  const data = text.split('\n\n').filter((block) => block.startsWith('data: {'));
  const events = data.map((block) => JSON.parse(block.slice(6)) as { usage?: { completion_tokens: number } });
  return { events, whole: text.endsWith('data: [DONE]\n\n') };
}

describe('a client that goes away', () => {
  beforeEach(async () => {
    sim = await startWorker(SLOW);
  });

  it('ends its stream: nothing more is generated, and the log says what was', async () => {
    const leaving = new AbortController();
    const response = await fetch(`${sim.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${SECRET}`, 'content-type': 'application/json', 'x-request-id': 'gone.1' },
      body: JSON.stringify(exact(20_000, streamed)),
      signal: leaving.signal,
    });
    const reader = response.body!.getReader();
    for (let read = 0; read < 2_000;) read += (await reader.read()).value!.length;
    leaving.abort();
    const [record] = await sim.recorded(1);
    expect(record).toMatchObject({ requestId: 'gone.1', promptTokens: PROMPT, outcome: 'aborted', stream: true });
    expect(record!.completionTokens).toBeGreaterThan(0);
    expect(record!.completionTokens).toBeLessThan(20_000);
    expect(await sim.metric('vllm:generation_tokens_total{model_name="demo/small",engine="0"}')).toBe(
      record!.completionTokens,
    );
    expect(await sim.metric('vllm:num_requests_running{model_name="demo/small",engine="0"}')).toBe(0);
  });

  it.each(['destroyed', 'half-closed'])('ends an answer that is not streamed: connection %s', async (how) => {
    const body = JSON.stringify(exact(20_000));
    const socket = connect({ port: Number(new URL(sim.url).port), host: '127.0.0.1' });
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${SECRET}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await until(async () => (await sim.metric('vllm:num_requests_running{model_name="demo/small",engine="0"}')) === 1);
    if (how === 'destroyed') socket.destroy();
    else socket.end();
    const [record] = await sim.recorded(1);
    expect(record).toMatchObject({ outcome: 'aborted', stream: false });
    expect(record!.completionTokens).toBeLessThan(20_000);
    socket.destroy();
  });

  it('leaves the queue before it ever ran', async () => {
    await sim.stop();
    sim = await startWorker({ ...SLOW, SLOTS: '1' });
    const first = await sim.post('/v1/chat/completions', exact(20_000, streamed));
    const leaving = new AbortController();
    const second = fetch(`${sim.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${SECRET}`, 'content-type': 'application/json' },
      body: JSON.stringify(exact(5)),
      signal: leaving.signal,
    }).catch(() => 'left');
    const waiting = () => sim.metric('vllm:num_requests_waiting{model_name="demo/small",engine="0"}');
    await until(async () => (await waiting()) === 1);
    leaving.abort();
    expect(await second).toBe('left');
    expect((await sim.recorded(1))[0]).toMatchObject({ outcome: 'aborted', completionTokens: 0, cachedTokens: 0 });
    expect(await waiting()).toBe(0);
    await first.body!.cancel();
    await sim.recorded(2);
  });
});

describe('slots', () => {
  it('run no more than there are, let so many wait, and answer 429 beyond', async () => {
    sim = await startWorker({ ...SLOW, SLOTS: '1', MAX_WAITING: '1' });
    const running = await sim.post('/v1/chat/completions', exact(20_000, streamed));
    const waits = await sim.post('/v1/chat/completions', exact(1, streamed));
    const refused = await sim.post('/v1/chat/completions', exact(1));
    expect([waits.status, refused.status, refused.headers.get('retry-after')]).toEqual([200, 429, '1']);
    await running.body!.cancel();
    expect((await eventsOf(waits)).whole).toBe(true);
  });
});

describe('faults', () => {
  beforeEach(async () => {
    sim = await startWorker();
  });

  it('answer with an error status as often as told, then all is well', async () => {
    await sim.faults({ errorStatus: 503, requests: 1 });
    const answer = await sim.post('/v1/chat/completions', exact(5), { 'x-request-id': 'err.1' });
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ error: { code: 503 } });
    expect(sim.records()).toMatchObject([{ requestId: 'err.1', outcome: 'error', completionTokens: 0 }]);
    expect((await sim.post('/v1/chat/completions', exact(5))).status).toBe(200);
  });

  it('cut a stream after so many tokens, and the log has just those', async () => {
    await sim.faults({ dieAfterTokens: 7 });
    const { events, whole } = await eventsOf(await sim.post('/v1/chat/completions', exact(50, streamed)));
    expect(whole).toBe(false);
    expect(events.at(-1)!.usage!.completion_tokens).toBe(7);
    expect(sim.records()).toMatchObject([{ outcome: 'error', completionTokens: 7 }]);
  });

  it('cut a stream behind its last token, before its end', async () => {
    await sim.faults({ dieAfterTokens: 9 });
    const { events, whole } = await eventsOf(await sim.post('/v1/chat/completions', exact(9, streamed)));
    expect([whole, events.at(-1)!.usage!.completion_tokens]).toEqual([false, 9]);
    expect(sim.records()).toMatchObject([{ outcome: 'error', completionTokens: 9 }]);
  });

  it('cut the connection before the first token, streamed or not', async () => {
    await sim.faults({ dieAfterTokens: 0 });
    const { events, whole } = await eventsOf(await sim.post('/v1/chat/completions', exact(9, streamed)));
    expect([events, whole]).toEqual([[], false]);
    await expect(sim.post('/v1/chat/completions', exact(9))).rejects.toThrow();
    expect(sim.records().map(({ completionTokens }) => completionTokens)).toEqual([0, 0]);
  });

  it('send nothing at all for a while, and a client who leaves meanwhile is written down', async () => {
    await sim.faults({ stallBeforeFirstByteMs: 3_600_000 });
    // One who has gone before the request came, on a machine that stands still, is nobody's.
    await until(async () => {
      const leaving = fetch(`${sim.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${SECRET}`, 'content-type': 'application/json' },
        body: JSON.stringify(exact(5, streamed)),
        signal: AbortSignal.timeout(500),
      });
      await expect(leaving).rejects.toThrow('timeout');
      return sim.records().length > 0;
    });
    expect((await sim.recorded(1))[0]).toMatchObject({ outcome: 'aborted', completionTokens: 0 });
    await sim.faults({ stallBeforeFirstByteMs: 20 });
    expect((await eventsOf(await sim.post('/v1/chat/completions', exact(5, streamed)))).whole).toBe(true);
  });

  it('stop in the middle for a while, and go on to the same end', async () => {
    await sim.faults({ stallMidStream: { afterTokens: 4, ms: 60 } });
    const { events, whole } = await eventsOf(await sim.post('/v1/chat/completions', exact(30, streamed)));
    expect(whole).toBe(true);
    expect(events.at(-1)!.usage!.completion_tokens).toBe(30);
    await sim.faults({ stallMidStream: { afterTokens: 4, ms: 3_600_000 } });
    const stalled = await sim.post('/v1/chat/completions', exact(30, streamed));
    const reader = stalled.body!.getReader();
    let text = '';
    while (!text.includes('"completion_tokens":4')) text += Buffer.from((await reader.read()).value ?? []).toString();
    await reader.cancel();
    expect((await sim.recorded(2))[1]).toMatchObject({ outcome: 'aborted', completionTokens: 4 });
  });

  it('leave the usage out', async () => {
    await sim.faults({ omitUsage: true });
    const whole = await (await sim.post('/v1/chat/completions', exact(5))).text();
    const stream = await (await sim.post('/v1/chat/completions', exact(5, streamed))).text();
    expect(whole + stream).not.toContain('usage');
    expect(stream.endsWith('data: [DONE]\n\n')).toBe(true);
    expect(sim.records().map(({ completionTokens }) => completionTokens)).toEqual([5, 5]);
  });

  it('end the process, with a switch for one model only', async () => {
    await sim.faults({ exitAfterTokens: 3, model: 'demo/other' });
    await sim.post('/v1/chat/completions', exact(5));
    expect(sim.crashes.count).toBe(0);
    await sim.post('/v1/chat/completions', exact(5, { model: 'demo/other' }));
    expect(sim.crashes.count).toBe(1);
  });

  it('can be read and switched off, and refuses what it does not know', async () => {
    await sim.faults({ omitUsage: true });
    const headers = { authorization: `Bearer ${SECRET}` };
    expect(await (await fetch(`${sim.url}/sim/faults`, { headers })).json()).toEqual({ omitUsage: true });
    expect((await sim.post('/sim/faults', { explode: true })).status).toBe(400);
    expect(await (await fetch(`${sim.url}/sim/faults`, { method: 'DELETE', headers })).json()).toEqual({});
  });
});

describe('what else a worker answers', () => {
  let client: OpenAI;
  beforeEach(async () => {
    sim = await startWorker();
    client = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: SECRET, maxRetries: 0, timeout: 60_000 });
  });

  it('lists its models and is healthy without a secret', async () => {
    const models = await client.models.list();
    expect(models.data.map(({ id }) => id)).toEqual([MODEL, 'demo/other']);
    expect(models.data[0]).toMatchObject({ max_model_len: 32_768, owned_by: 'vllm' });
    expect((await fetch(`${sim.url}/health`)).status).toBe(200);
  });

  it('embeds: one unit vector per text, the same for the same, counted and logged', async () => {
    const answer = await client.embeddings.create({ model: MODEL, input: ['one thing', 'another', 'one thing'] });
    const [a, b, c] = answer.data.map(({ embedding }) => embedding);
    expect(a).toHaveLength(256);
    expect(Math.hypot(...a!)).toBeCloseTo(1, 5);
    expect(c).toEqual(a);
    expect(b).not.toEqual(a);
    const floats = await client.embeddings.create({ model: MODEL, input: 'one thing', encoding_format: 'float' });
    expect(floats.data[0]!.embedding[7]).toBeCloseTo(a![7]!, 6);
    const tokens = countTokens('one thing') * 2 + countTokens('another');
    expect(answer.usage).toMatchObject({ prompt_tokens: tokens, total_tokens: tokens });
    expect(sim.records()[0]).toMatchObject({ endpoint: '/v1/embeddings', promptTokens: tokens, completionTokens: 0 });
    expect((await sim.post('/v1/embeddings', { model: MODEL, input: 'x', dimensions: 3 })).status).toBe(400);
    expect((await sim.post('/v1/embeddings', { model: 'nope', input: 'x' })).status).toBe(404);
  });

  it("counts under vLLM's names", async () => {
    await sim.post('/v1/chat/completions', exact(5));
    const text = await (await fetch(`${sim.url}/metrics`)).text();
    for (const line of [
      'vllm:num_requests_running{model_name="demo/small",engine="0"} 0',
      'vllm:num_requests_waiting{model_name="demo/small",engine="0"} 0',
      'vllm:kv_cache_usage_perc{model_name="demo/small",engine="0"} 0',
      `vllm:prefix_cache_queries_total{model_name="demo/small",engine="0"} ${PROMPT}`,
      'vllm:prefix_cache_hits_total{model_name="demo/small",engine="0"} 0',
      `vllm:prompt_tokens_total{model_name="demo/small",engine="0"} ${PROMPT}`,
      'vllm:generation_tokens_total{model_name="demo/small",engine="0"} 5',
      'vllm:request_success_total{model_name="demo/small",engine="0",finished_reason="length"} 1',
      'vllm:time_to_first_token_seconds_count{model_name="demo/small",engine="0"} 1',
      'vllm:inter_token_latency_seconds_count{model_name="demo/small",engine="0"} 4',
      'vllm:e2e_request_latency_seconds_count{model_name="demo/small",engine="0"} 1',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
  });

  it('announces itself as the contract says, without its secret', () => {
    const { subject, body } = sim.published[0]!;
    expect(subject).toBe('workers.v1.heartbeat.w1');
    expect(workerHeartbeatSchema.parse(body)).toMatchObject({ id: 'w1', url: sim.url, slots: 32, running: 0 });
    expect(JSON.stringify(sim.published)).not.toContain(SECRET);
  });

  it('never writes a word of prompt or answer into its log', async () => {
    const answer = await client.chat.completions.create({
      model: MODEL,
      messages: [{ role: 'user', content: 'Confidential: aubergine' }],
    });
    const log = JSON.stringify(sim.records());
    expect(log).not.toContain('aubergine');
    expect(log).not.toContain(answer.choices[0]!.message.content!.slice(0, 20));
  });
});

describe('shutting down', () => {
  it('lets what runs end, and takes nothing new', async () => {
    sim = await startWorker(SLOW);
    const running = await sim.post('/v1/chat/completions', exact(40, streamed));
    const stopped = sim.worker.stop(60_000);
    expect((await eventsOf(running)).whole).toBe(true);
    await stopped;
    await expect(fetch(`${sim.url}/health`)).rejects.toThrow();
    expect(sim.records()).toMatchObject([{ outcome: 'finished', completionTokens: 40 }]);
    sim = await startWorker();
  });

  it('cuts what does not end in time and writes down what was generated', async () => {
    sim = await startWorker(SLOW);
    const running = await sim.post('/v1/chat/completions', exact(20_000, streamed));
    const reading = eventsOf(running);
    await sim.worker.stop(100);
    expect((await reading).whole).toBe(false);
    expect(sim.records()).toMatchObject([{ outcome: 'aborted' }]);
    sim = await startWorker();
  });
});

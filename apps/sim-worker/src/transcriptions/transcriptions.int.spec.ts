import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import OpenAI from 'openai';
import { MODEL, SECRET, startWorker, type Harness } from '../testing/worker-harness.js';

let sim: Harness;
let client: OpenAI;
beforeAll(async () => {
  sim = await startWorker();
  client = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: SECRET, maxRetries: 0, timeout: 60_000 });
});
afterAll(() => sim.stop());

/** Silence, 8 kHz, 16 bit, mono. */
function wav(seconds: number): File {
  const data = Buffer.alloc(44 + seconds * 16_000);
  data.write('RIFF', 0);
  data.write('WAVEfmt ', 8);
  data.writeUInt32LE(16_000, 28);
  return new File([data], 'a.wav', { type: 'audio/wav' });
}
const post = async (fields: Record<string, string | File>) => {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  const headers = { authorization: `Bearer ${SECRET}` };
  return fetch(`${sim.url}/v1/audio/transcriptions`, { method: 'POST', headers, body });
};

describe('transcriptions', () => {
  it('say the same of the same sound, tell its begun seconds, and stand in the log', async () => {
    const ask = () => client.audio.transcriptions.create({ model: MODEL, file: wav(2.5) });
    const answer = await ask();
    expect(answer).toEqual({ text: expect.stringMatching(/\w/), usage: { type: 'duration', seconds: 3 } });
    expect(await ask()).toEqual(answer);
    expect(sim.records().at(-1)).toMatchObject({
      endpoint: '/v1/audio/transcriptions',
      audioSeconds: 2.5,
      completionTokens: 7,
      outcome: 'finished',
    });
  });

  it.each([
    ['text', /^[^{\n]+\n$/],
    ['srt', /^1\n00:00:00,000 --> 00:00:02,500\n.+\n$/],
    ['vtt', /^WEBVTT\n\n1\n00:00:00\.000 --> 00:00:02\.500\n.+\n$/],
  ] as const)('come as %s', async (format, shape) => {
    expect(await client.audio.transcriptions.create({ model: MODEL, file: wav(2.5), response_format: format })).toMatch(
      shape,
    );
  });

  it('come with segments, the length in words, and no usage, as vLLM tells them', async () => {
    const answer = await client.audio.transcriptions.create({
      file: wav(5),
      model: MODEL,
      response_format: 'verbose_json',
    });
    expect(answer).toMatchObject({
      duration: '5',
      segments: [
        { id: 0, start: 0 },
        { id: 1, end: 5 },
      ],
    });
    expect(answer).not.toHaveProperty('usage');
  });

  it('stream in chunks, with running counts where they are asked for', async () => {
    const options = { stream_include_usage: 'true', stream_continuous_usage_stats: 'true' };
    const text = await (await post({ model: MODEL, stream: 'true', ...options, file: wav(2) })).text();
    const events = text.split('\n\n').filter(Boolean);
    expect(events.at(-1)).toBe('data: [DONE]');
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event.slice(6)) as { usage?: object });
    expect(chunks).toHaveLength(6);
    expect(chunks[0]).toMatchObject({
      object: 'transcription.chunk',
      usage: { prompt_tokens: 6, completion_tokens: 1 },
    });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 6, completion_tokens: 5 } });
  });

  it.each([
    [{ model: MODEL }, 400],
    [{ model: MODEL, file: 'no file' }, 400],
    [{ model: MODEL, file: wav(1), response_format: 'xml' }, 400],
    [{ model: MODEL, file: wav(1), stream_include_usage: 'true' }, 400],
    [{ model: 'nobody', file: wav(1) }, 404],
  ])('are refused for %j with %d', async (fields, status) => {
    expect((await post(fields as Record<string, string>)).status).toBe(status);
  });
});

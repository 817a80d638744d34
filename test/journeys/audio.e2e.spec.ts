// `/v1/audio/transcriptions` with the official client: every format, streams, uploads that break off, and what is charged.
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import OpenAI, { APIError, BadRequestError, NotFoundError, PermissionDeniedError, toFile } from 'openai';
import { Client } from 'pg';
import { rawUpload as uploadBytes, wav } from './sounds.ts';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

const MODEL = 'demo/small-7b';
/** pico-USD, as the demo's price list says. */
const PER_MS = 100_000n;
const MIB = 1024 * 1024;
const UPLOAD_LIMIT = 256 * MIB;
const UPLOAD_HOLD = MIB;

let stack: TestStack;
let metering: Client;
let billing: Client;
let client: OpenAI;
beforeAll(async () => {
  stack = await startTestStack({
    workers: 1,
    workerEnv: { PREFILL_OVERHEAD_MS: '1', DECODE_MS: '10', DECODE_MS_PER_SEQUENCE: '0' },
    serviceEnv: { gateway: { UPLOAD_LIMIT: String(UPLOAD_LIMIT), UPLOAD_HOLD: String(UPLOAD_HOLD) } },
  });
  metering = new Client({ connectionString: stack.databases.metering });
  billing = new Client({ connectionString: stack.databases.billing });
  await Promise.all([metering.connect(), billing.connect()]);
  client = sdk(stack.demo.inferenceKey);
}, STACK_START_MS);
afterEach(() => faults(undefined));
afterAll(async () => {
  await Promise.all([metering?.end(), billing?.end()]);
  await stack?.stop();
});

const sdk = (apiKey: string, path = '/v1') =>
  new OpenAI({ baseURL: stack.baseUrl + path, apiKey, maxRetries: 0, timeout: 60_000 });
const faults = async (set: object | undefined) => {
  const { url } = stack.workers[0]!;
  await call(url, stack.workerSecret, set ? 'POST' : 'DELETE', '/sim/faults', set);
};

interface Recorded {
  endpoint: string;
  outcome: string;
  rank: number;
  estimated: boolean;
  stream: boolean;
  audio_ms: string;
  input_tokens: string;
  output_tokens: string;
  cost_pico: string;
}
const recorded = (requestId: string | null | undefined) =>
  eventually(
    async () =>
      (await metering.query<Recorded>('select * from usage_records where request_id = $1', [requestId])).rows[0],
  );
/** What the ledger took from the organization. */
const taken = (requestId: string | null | undefined) =>
  eventually(async () => {
    const charged = await billing.query('select from charges where request_id = $1', [requestId]);
    if (charged.rowCount === 0) return undefined;
    const { rows } = await billing.query<{ pico: string }>(
      `select coalesce(-sum(e.amount), 0)::text as pico from ledger_transactions t
       join ledger_entries e on e.transaction_id = t.id join ledger_accounts a on a.id = e.account_id and a.name = 'available'
       where t.request_id = $1`,
      [requestId],
    );
    return rows[0]!.pico;
  });
/** As the worker says in its own log. */
const worked = async (requestId: string | null | undefined) =>
  eventually(async () =>
    readFileSync(stack.workers[0]!.log, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { requestId: string; outcome: string; audioSeconds: number })
      .find((line) => line.requestId === `${requestId}.1`),
  );
const refusal = (asked: PromiseLike<unknown>) =>
  Promise.resolve(asked).then(
    () => {
      throw new Error('was not refused');
    },
    (error: unknown) => error as APIError,
  );

describe('a transcription', () => {
  it('comes as JSON and is charged by the seconds that the worker tells, to the pico-dollar', async () => {
    const asked = client.audio.transcriptions.create({ model: MODEL, file: await wav(2.5) });
    const { data, request_id: requestId } = await asked.withResponse();
    expect(data).toEqual({ text: expect.stringMatching(/\w/), usage: { type: 'duration', seconds: 3 } });
    expect(await recorded(requestId)).toMatchObject({
      endpoint: 'audio/transcriptions',
      outcome: 'ok',
      rank: 4,
      estimated: false,
      audio_ms: '3000',
      output_tokens: '0',
      cost_pico: String(3_000n * PER_MS),
    });
    expect(await taken(requestId)).toBe(String(3_000n * PER_MS));
    expect(await worked(requestId)).toMatchObject({ outcome: 'finished', audioSeconds: 2.5 });
    const { body } = await call<{ audioMs: number; cost: string }>(
      stack.baseUrl,
      stack.demo.inferenceKey,
      'GET',
      `/v1/generations/${requestId}`,
    );
    expect(body).toMatchObject({ audioMs: 3_000, cost: '0.0003', outputTokens: 0 });
  });

  it('comes in words with their times, and is charged by the length that stands there', async () => {
    const { data, request_id: requestId } = await client.audio.transcriptions
      .create({ model: MODEL, file: await wav(2.5), response_format: 'verbose_json' })
      .withResponse();
    expect(data).toMatchObject({ duration: '2.5', segments: [{ id: 0, start: 0, end: 2.5 }] });
    expect(await recorded(requestId)).toMatchObject({ rank: 4, estimated: false, audio_ms: '2500' });
    expect(await taken(requestId)).toBe(String(2_500n * PER_MS));
  });

  it.each([
    ['text', /^[^{\n]+\n$/, 'text/plain'],
    ['srt', /^1\n00:00:00,000 --> 00:00:02,500\n/, 'application/x-subrip'],
    ['vtt', /^WEBVTT\n/, 'text/vtt'],
  ] as const)('comes as %s byte for byte, and is charged by the samples that passed', async (format, shape, type) => {
    const {
      data,
      response,
      request_id: requestId,
    } = await client.audio.transcriptions
      .create({ model: MODEL, file: await wav(2.5), response_format: format })
      .withResponse();
    expect(data).toMatch(shape);
    expect(response.headers.get('content-type')).toContain(type);
    expect(await recorded(requestId)).toMatchObject({ outcome: 'ok', rank: 2, estimated: false, audio_ms: '2500' });
    expect(await taken(requestId)).toBe(String(2_500n * PER_MS));
  });

  it('of a sound whose length nobody tells is charged by a guess that says so', async () => {
    const file = await toFile(Buffer.alloc(40_000, 1), 'a.webm');
    const { request_id: requestId } = await client.audio.transcriptions
      .create({ model: MODEL, file, response_format: 'text' })
      .withResponse();
    expect(await recorded(requestId)).toMatchObject({ rank: 2, estimated: true, audio_ms: '10000' });
  });

  it('streams as the client knows it, its usage at the end, and is charged by sound and tokens', async () => {
    const whole = await client.audio.transcriptions.create({ model: MODEL, file: await wav(4) });
    const { data, request_id: requestId } = await client.audio.transcriptions
      .create({ file: await wav(4), model: MODEL, stream: true })
      .withResponse();
    const events: OpenAI.Audio.TranscriptionStreamEvent[] = [];
    for await (const event of data) events.push(event);
    const deltas = events.flatMap((event) => (event.type === 'transcript.text.delta' ? [event.delta] : []));
    expect([deltas.length, deltas.join('')]).toEqual([10, whole.text]);
    expect(events.at(-1)).toEqual({
      type: 'transcript.text.done',
      text: whole.text,
      usage: { type: 'tokens', input_tokens: 8, output_tokens: 10, total_tokens: 18 },
    });
    expect(await recorded(requestId)).toMatchObject({
      outcome: 'ok',
      stream: true,
      rank: 4,
      estimated: false,
      audio_ms: '4000',
      input_tokens: '8',
      output_tokens: '10',
    });
    expect(await taken(requestId)).toBe(String(4_000n * PER_MS + 8n * 100_000n + 10n * 300_000n));
  });

  it('finds its workload by the path, whatever the form says or does not say', async () => {
    const by = sdk(stack.demo.inferenceKey, '/w/default/small/v1');
    for (const model of ['whisper-1', MODEL]) {
      const { text } = await by.audio.transcriptions.create({ file: await wav(1), model });
      expect(text).not.toBe('');
    }
    const form = new FormData();
    form.append('file', await wav(1));
    const answer = await fetch(`${stack.baseUrl}/w/default/small/v1/audio/transcriptions`, {
      method: 'POST',
      headers: { 'x-api-key': stack.demo.inferenceKey },
      body: form,
    });
    expect([answer.status, await answer.json()]).toEqual([200, expect.objectContaining({ text: expect.any(String) })]);
    const below = sdk(stack.demo.inferenceKey, '/inference/v1');
    expect((await below.audio.transcriptions.create({ model: MODEL, file: await wav(1) })).text).not.toBe('');
  });

  it('takes a file before its model as far as it may be held, and says what to do about a longer one', async () => {
    const { text } = await client.audio.transcriptions.create({ file: await wav(20), model: MODEL });
    expect(text).not.toBe('');
    const error = await refusal(client.audio.transcriptions.create({ file: await wav(60), model: MODEL }));
    expect(error).toBeInstanceOf(BadRequestError);
    expect([error.param, error.message]).toEqual(['model', expect.stringContaining('Send model before file')]);
    expect((await client.audio.transcriptions.create({ model: MODEL, file: await wav(60) })).text).not.toBe('');
    const by = sdk(stack.demo.inferenceKey, '/w/default/small/v1');
    expect((await by.audio.transcriptions.create({ file: await wav(60), model: MODEL })).text).not.toBe('');
  });
});

describe('a transcription that is broken off', () => {
  const latest = (since: Date) =>
    eventually(async () => {
      const { rows } = await metering.query<Recorded & { request_id: string }>(
        `select * from usage_records where endpoint = 'audio/transcriptions' and started_at >= $1`,
        [since.toISOString()],
      );
      return rows[0];
    });

  it('in its answer is cancelled at the worker, and charged for the sound and what was said', async () => {
    const { data, request_id: requestId } = await client.audio.transcriptions
      .create({ model: MODEL, file: await wav(150), stream: true })
      .withResponse();
    let pieces = 0;
    for await (const event of data) if (event.type === 'transcript.text.delta' && ++pieces === 10) break;
    expect(await worked(requestId)).toMatchObject({ outcome: 'aborted' });
    const record = await recorded(requestId);
    expect(record).toMatchObject({ outcome: 'aborted', rank: 3, audio_ms: '150000' });
    const output = Number(record.output_tokens);
    expect(output).toBeGreaterThanOrEqual(10);
    expect(output).toBeLessThan(375);
    const cost = 150_000n * PER_MS + BigInt(record.input_tokens) * 100_000n + BigInt(output) * 300_000n;
    expect(await taken(requestId)).toBe(String(cost));
  });

  it('in its upload reaches no model, costs nothing, and still has its record', async () => {
    const since = new Date();
    const { request, write } = rawUpload();
    await write(Buffer.alloc(256 * 1024));
    // The worker has its beginning: the request was sent on.
    await eventually(async () => (await gauge('router', 'sluice_router_worker_in_flight')) === 1);
    request.destroy();
    const record = await latest(since);
    expect(record).toMatchObject({ outcome: 'aborted', rank: 1, audio_ms: '0', cost_pico: '0' });
    expect(readFileSync(stack.workers[0]!.log, 'utf8')).not.toContain(record.request_id);
  });

  it('by its worker is told as its fault, and no other attempt is made of what was sent', async () => {
    await faults({ errorStatus: 500, requests: 1 });
    const error = await refusal(client.audio.transcriptions.create({ model: MODEL, file: await wav(30) }));
    expect([error.status, error.code]).toEqual([502, 'worker_error']);
    expect(await recorded(error.requestID)).toMatchObject({ outcome: 'error', audio_ms: '0', cost_pico: '0' });
  });
});

describe('what is refused', () => {
  const post = (body: string | Buffer | FormData, headers: Record<string, string> = {}) =>
    fetch(`${stack.baseUrl}/v1/audio/transcriptions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.demo.inferenceKey}`, ...headers },
      body,
    });
  const told = async (answer: Response) => {
    const { error } = (await answer.json()) as { error: { code: string; param: string | null } };
    return [answer.status, error.code, error.param];
  };
  const multipart = { 'content-type': 'multipart/form-data; boundary=b' };

  it('says which field it was', async () => {
    const file = await wav(1);
    const form = (fields: Record<string, string | File>) => {
      const form = new FormData();
      for (const [name, value] of Object.entries(fields)) form.append(name, value);
      return form;
    };
    expect(await told(await post(form({ model: MODEL })))).toEqual([400, 'invalid_request', 'file']);
    expect(await told(await post(form({ model: MODEL, file: 'text' })))).toEqual([400, 'invalid_request', 'file']);
    expect(await told(await post(form({ file })))).toEqual([400, 'invalid_request', 'model']);
    for (const fields of [
      { model: MODEL, response_format: 'xml', file },
      { model: MODEL, file, response_format: 'xml' },
    ])
      expect(await told(await post(form(fields)))).toEqual([400, 'invalid_request', 'response_format']);
    expect(await told(await post(form({ model: MODEL, stream: 'maybe', file })))).toEqual([
      400,
      'invalid_request',
      'stream',
    ]);
  });

  it('says that it is no form, or where it breaks off', async () => {
    expect(await told(await post('{}', { 'content-type': 'application/json' }))).toEqual([
      415,
      'unsupported_media_type',
      null,
    ]);
    for (const body of [
      '',
      'junk',
      '--b\r\nX: y\r\n\r\n\r\n--b--',
      '--b\r\nContent-Disposition: form-data; name="model"',
    ])
      expect(await told(await post(body, multipart))).toEqual([400, 'invalid_request', null]);
    const cut = `--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n${MODEL}\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc`;
    const answer = await post(cut, multipart);
    const requestId = answer.headers.get('x-request-id');
    expect(await told(answer)).toEqual([400, 'invalid_request', null]);
    // It was sent on before it broke off: it has its record, and cost nothing.
    expect(await recorded(requestId)).toMatchObject({ outcome: 'error', cost_pico: '0' });
  });

  it('is too large: that is said before it is sent', async () => {
    const { request, answered } = rawUpload({ 'content-length': String(UPLOAD_LIMIT + 1) });
    const { status, body } = await answered;
    expect([status, JSON.parse(body)]).toMatchObject([413, { error: { code: 'request_too_large' } }]);
    request.destroy();
  });

  it('is a model that is not there, or not this key’s', async () => {
    const file = await wav(1);
    expect(await refusal(client.audio.transcriptions.create({ model: 'nobody/serves', file }))).toBeInstanceOf(
      NotFoundError,
    );
    const { body } = await call<{ data: { apiKey: string } }>(
      stack.baseUrl,
      stack.demo.managementKey,
      'POST',
      '/api/keys/credit',
      { name: 'other', models: ['demo/large-70b'] },
    );
    const error = await refusal(sdk(body.data.apiKey).audio.transcriptions.create({ model: MODEL, file }));
    expect(error).toBeInstanceOf(PermissionDeniedError);
    expect(error.code).toBe('model_not_allowed');
  });
});

describe('memory', () => {
  it('of gateway and router does not grow with a file, whose worker reads as slowly as it likes', async () => {
    // A first one shows what any upload takes: code, heap, and the buffers that V8 lets lie until there are 64 MiB of them.
    const { most: usual } = await uploaded(96 * MIB);
    await faults({ stallUpload: { afterBytes: MIB, ms: 6_000 } });
    const size = 240 * MIB;
    const { most, stalledAt } = await uploaded(size);
    // It came to a stop while the worker did not read, with most of it still to come.
    expect(stalledAt).toBeGreaterThan(0);
    expect(stalledAt).toBeLessThan(size / 2);
    for (const [i, bytes] of most.entries()) expect(bytes - usual[i]!).toBeLessThan(size / 5);
  });

  const memory = async () =>
    Promise.all(
      (['gateway', 'router'] as const).flatMap((service) => [
        gauge(service, 'nodejs_external_memory_bytes'),
        gauge(service, 'process_resident_memory_bytes'),
      ]),
    );

  /** The most that was seen of each, and how much had been taken when nothing more was, for the first time. */
  async function uploaded(size: number): Promise<{ most: number[]; stalledAt: number }> {
    const { write, end, answered } = rawUpload();
    const chunk = Buffer.alloc(65_536);
    let sent = 0;
    const sending = (async () => {
      for (; sent < size; sent += chunk.length) await write(chunk);
      end();
    })();
    const most = await memory();
    let stalledAt = 0;
    for (let done = false; !done;) {
      const at = sent;
      done = await Promise.race([answered.then(() => true), new Promise<false>((go) => setTimeout(go, 100, false))]);
      if (stalledAt === 0 && at > 0 && sent === at) stalledAt = sent;
      (await memory()).forEach((bytes, i) => (most[i] = Math.max(most[i]!, bytes)));
    }
    await sending;
    expect((await answered).status).toBe(200);
    return { most, stalledAt };
  }
});

async function gauge(service: 'gateway' | 'router', name: string): Promise<number> {
  const text = await (await fetch(`${stack.urls[service]}/metrics`)).text();
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(name))!
      .split(' ')[1],
  );
}

const rawUpload = (headers: Record<string, string> = {}) =>
  uploadBytes({ baseUrl: stack.baseUrl, key: stack.demo.inferenceKey, model: MODEL }, headers);

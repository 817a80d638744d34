// `/v1/audio/transcriptions` with the official client: every format, streams, uploads that break off, and what is charged.
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import OpenAI, { APIError, BadRequestError, NotFoundError, PermissionDeniedError, toFile } from 'openai';
import { Client } from 'pg';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

const MODEL = 'demo/small-7b';
/** pico-USD, as the demo's price list says. */
const PER_MS = 100_000n;
const UPLOAD_LIMIT = 128 * 1024 * 1024;
const UPLOAD_HOLD = 1024 * 1024;

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
}, 60_000);

const sdk = (apiKey: string, path = '/v1') =>
  new OpenAI({ baseURL: stack.baseUrl + path, apiKey, maxRetries: 0, timeout: 60_000 });
const faults = async (set: object | undefined) => {
  const { url } = stack.workers[0]!;
  await call(url, stack.workerSecret, set ? 'POST' : 'DELETE', '/sim/faults', set);
};

/** Silence of 16 kHz, 16 bit, mono: 32,000 bytes a second. */
function wav(seconds: number): Promise<File> {
  const data = Buffer.alloc(44 + seconds * 32_000);
  data.write('RIFF', 0);
  data.writeUInt32LE(data.length - 8, 4);
  data.write('WAVEfmt ', 8);
  data.writeUInt32LE(16, 16);
  data.writeUInt16LE(1, 20);
  data.writeUInt16LE(1, 22);
  data.writeUInt32LE(16_000, 24);
  data.writeUInt32LE(32_000, 28);
  data.writeUInt16LE(2, 32);
  data.writeUInt16LE(16, 34);
  data.write('data', 36);
  data.writeUInt32LE(data.length - 44, 40);
  return toFile(data, 'a.wav', { type: 'audio/wav' });
}

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
});

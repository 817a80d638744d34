import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Generation } from '@sluice/contracts/metering';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { Client } from 'pg';
import { chunked, PlayedWorker } from '../played-worker.ts';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

const TEXT = 'Keys open doors, and locks keep them shut; this worker counts neither.';
const PROMPT = 'Say something about keys. '.repeat(20);
interface Charge {
  readonly input_tokens: string;
  readonly output_tokens: string;
}

let stack: TestStack;
let worker: PlayedWorker;
let billing: Client;
beforeAll(async () => {
  stack = await startTestStack({ workers: 0 });
  billing = new Client({ connectionString: stack.databases.billing });
  await billing.connect();
  worker = await PlayedWorker.start({
    stack,
    answer: ({ socket, body }) => {
      const words = TEXT.split(/(?<= )/);
      if (!(JSON.parse(body) as { stream?: boolean }).stream) {
        const answer = JSON.stringify({ model: 'm', choices: [{ message: { role: 'assistant', content: TEXT } }] });
        socket.write(
          `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${answer.length}\r\n\r\n${answer}`,
        );
        return;
      }
      const events = words.map((content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
      const text = [...events, 'data: [DONE]\n\n'].map(chunked).join('');
      socket.write(
        `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n${text}0\r\n\r\n`,
      );
    },
  });
}, STACK_START_MS);
afterAll(async () => {
  await billing?.end();
  await worker?.stop();
  await stack?.stop();
}, 60_000);

describe.each([false, true])('an answer of a worker that counts nothing, stream %s', (stream) => {
  it('is metered and charged by a tokenizer, and says so', async () => {
    const { baseUrl, demo, models } = stack;
    const response = await fetch(`${baseUrl}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${demo.inferenceKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: models[0], messages: [{ role: 'user', content: PROMPT }], stream }),
    });
    expect(response.status).toBe(200);
    await response.text();
    const id = response.headers.get('x-request-id')!;
    const generation = await eventually(async () => {
      const asked = await call<Generation>(baseUrl, demo.inferenceKey, 'GET', `/v1/generations/${id}`);
      return asked.status === 200 && asked.body;
    });
    // Its role and its frame beside the text.
    const [input, output] = [countTokens(PROMPT) + 1 + 4, countTokens(TEXT)];
    expect(generation).toMatchObject({ estimated: true, inputTokens: input, outputTokens: output });
    const charge = await eventually(async () => {
      const { rows } = await billing.query<Charge>('select * from charges where request_id = $1', [id]);
      return rows[0];
    });
    expect(charge).toMatchObject({ input_tokens: String(input), output_tokens: String(output) });
  });
});

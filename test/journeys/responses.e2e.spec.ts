// `/v1/responses`, `/v1/inference`, generations and models with the official client: answers, streams, refusals, and what was metered.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { systemId } from '@sluice/primitives/id';
import { formatUsd } from '@sluice/primitives/money';
import OpenAI, { APIError, BadRequestError, NotFoundError } from 'openai';
import { Client } from 'pg';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

let stack: TestStack;
let metering: Client;
let client: OpenAI;
beforeAll(async () => {
  stack = await startTestStack({
    workers: 1,
    workerEnv: { PREFILL_OVERHEAD_MS: '1', DECODE_MS: '10', DECODE_MS_PER_SEQUENCE: '0' },
  });
  metering = new Client({ connectionString: stack.databases.metering });
  await metering.connect();
  client = new OpenAI({ baseURL: `${stack.baseUrl}/v1`, apiKey: stack.demo.inferenceKey, maxRetries: 0 });
}, STACK_START_MS);
afterAll(async () => {
  await metering?.end();
  await stack?.stop();
});

interface Recorded {
  endpoint: string;
  outcome: string;
  rank: number;
  estimated: boolean;
  input_tokens: string;
  output_tokens: string;
}
/** The gateway's: of a request that its client left, the router's witness may be there before it. */
const recorded = (requestId: string | null) =>
  eventually(
    async () =>
      (await metering.query<Recorded>('select * from usage_records where request_id = $1 and rank > 0', [requestId]))
        .rows[0],
  );
const ask = (tokens: number) => ({ model: stack.models[0]!, input: 'Say something.', max_output_tokens: tokens });

describe('responses', () => {
  it('come whole, and are metered by what they say', async () => {
    const { data, request_id: requestId } = await client.responses.create(ask(12)).withResponse();
    expect(data).toMatchObject({ object: 'response', model: stack.models[0], usage: { output_tokens: 12 } });
    expect([data.id, data.output_text]).toEqual([`resp_${requestId}`, expect.stringMatching(/./)]);
    expect(await recorded(requestId)).toMatchObject({
      endpoint: 'responses',
      outcome: 'ok',
      rank: 4,
      input_tokens: String(data.usage!.input_tokens),
      output_tokens: '12',
    });
  });

  it('stream, every event in order, and are metered by their last', async () => {
    const { data, request_id: requestId } = await client.responses.create({ ...ask(15), stream: true }).withResponse();
    const types: string[] = [];
    for await (const event of data) {
      expect(event.sequence_number).toBe(types.length);
      types.push(event.type);
    }
    expect([types[0], types.at(-1)]).toEqual(['response.created', 'response.completed']);
    expect(types.filter((type) => type === 'response.output_text.delta')).toHaveLength(15);
    expect(await recorded(requestId)).toMatchObject({ outcome: 'ok', rank: 4, estimated: false, output_tokens: '15' });
  });

  it('that their client leaves are metered by what came', async () => {
    const { data, request_id: requestId } = await client.responses
      .create({ ...ask(2_000), stream: true })
      .withResponse();
    let pieces = 0;
    for await (const event of data) if (event.type === 'response.output_text.delta' && ++pieces === 20) break;
    const record = await recorded(requestId);
    expect(record).toMatchObject({ outcome: 'aborted', rank: 2, estimated: true });
    expect(Number(record.output_tokens)).toBeGreaterThanOrEqual(20);
    expect(Number(record.output_tokens)).toBeLessThan(1_000);
  });

  it('end with an error that the client raises when their worker is lost', async () => {
    await call(stack.workers[0]!.url, stack.workerSecret, 'POST', '/sim/faults', { dieAfterTokens: 12, requests: 1 });
    let pieces = 0;
    const reading = async () => {
      for await (const { type } of await client.responses.create({ ...ask(1_000), stream: true }))
        if (type === 'response.output_text.delta') pieces++;
    };
    const error = await reading().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(APIError);
    expect((error as APIError).code).toBe('worker_error');
    expect(pieces).toBeGreaterThan(0);
    expect(pieces).toBeLessThanOrEqual(12);
  });

  it.each([{ previous_response_id: 'resp_1' }, { background: true }, { conversation: 'conv_1' }])(
    'that would have to be stored are refused by name: %j',
    async (field) => {
      const error = await client.responses
        .create({ ...ask(5), ...field, stream: false })
        .catch((error: unknown) => error);
      expect(error).toBeInstanceOf(BadRequestError);
      expect((error as BadRequestError).param).toBe(Object.keys(field)[0]);
    },
  );
});

describe('inference by a prompt', () => {
  it('answers with a text completion, as a stream too', async () => {
    const body = { model: stack.models[0]!, prompt: 'Hello', max_tokens: 6, min_tokens: 6, ignore_eos: true };
    const { data, response } = await client.post('/inference', { body }).withResponse();
    expect(data).toMatchObject({ object: 'text_completion', usage: { completion_tokens: 6 } });
    const { headers } = response;
    expect(await recorded(headers.get('x-request-id'))).toMatchObject({ endpoint: 'inference', output_tokens: '6' });
    const streamed = (await client.post('/inference', {
      body: { ...body, stream: true },
      stream: true,
    })) as AsyncIterable<{
      object: string;
    }>;
    const objects: string[] = [];
    for await (const chunk of streamed) objects.push(chunk.object);
    expect(new Set(objects)).toEqual(new Set(['text_completion']));
  });

  it('without a prompt is refused by its name', async () => {
    const error = await client
      .post('/inference', { body: { model: stack.models[0] } })
      .catch((error: unknown) => error);
    expect((error as BadRequestError).param).toBe('prompt');
  });
});

describe('generations', () => {
  interface Generation {
    id: string;
    cost: string;
    inputTokens: number;
    outputTokens: number;
    reasoningTokens: number;
    embeddings: number;
  }
  const find = (key: string, id: string) => call<Generation>(stack.baseUrl, key, 'GET', `/v1/generations/${id}`);

  it('say what was thought of the output, and how many vectors were answered', async () => {
    const model = stack.models[0]!;
    const thinking = { ...ask(200), reasoning: { effort: 'low' as const } };
    const thought = await client.responses.create(thinking).withResponse();
    const vectors = await client.embeddings.create({ model, input: ['a', 'b', 'c'] }).withResponse();
    const generation = (id: string | null) =>
      eventually(async () => {
        const { status, body } = await find(stack.demo.inferenceKey, id!);
        return status === 200 && body;
      });
    const reasoningTokens = thought.data.usage!.output_tokens_details.reasoning_tokens;
    expect(reasoningTokens).toBeGreaterThan(0);
    expect(await generation(thought.request_id)).toMatchObject({ reasoningTokens, embeddings: 0 });
    expect(await generation(vectors.request_id)).toMatchObject({ reasoningTokens: 0, embeddings: 3 });
  });

  it('are told to their key with tokens and exact cost, by the request’s id or the answer’s, and to no other key', async () => {
    const body = { model: stack.models[0]!, prompt: 'Hello', max_tokens: 7 };
    const { data, request_id: requestId } = await client.completions.create(body).withResponse();
    const found = await eventually(async () => {
      const answer = await find(stack.demo.inferenceKey, requestId!);
      return answer.status === 200 && answer.body;
    });
    expect(found).toMatchObject({
      id: requestId,
      endpoint: 'completions',
      outcome: 'ok',
      inputTokens: data.usage!.prompt_tokens,
      outputTokens: data.usage!.completion_tokens,
    });
    const { rows } = await metering.query<{ cost: string }>(
      'select cost_pico::text as cost from usage_records where request_id = $1',
      [requestId],
    );
    expect(found.cost).toBe(formatUsd(BigInt(rows[0]!.cost)));
    expect((await find(stack.demo.inferenceKey, data.id)).body).toEqual(found);

    const another = await call<{ data: { apiKey: string } }>(
      stack.baseUrl,
      stack.demo.managementKey,
      'POST',
      '/api/keys/credit',
      { name: 'another' },
    );
    expect((await find(another.body.data.apiKey, requestId!)).status).toBe(404);
  });

  it('that are not there, or not yet, are a 404 that says whether to come again', async () => {
    const fresh = await find(stack.demo.inferenceKey, systemId());
    expect([fresh.status, fresh.headers.get('retry-after')]).toEqual([404, '1']);
    const never = await find(stack.demo.inferenceKey, 'chatcmpl-1');
    expect([never.status, never.headers.get('retry-after')]).toEqual([404, null]);
  });
});

describe('models', () => {
  it('are found one by one, whatever slashes their ids have', async () => {
    for await (const { id } of client.models.list()) expect(await client.models.retrieve(id)).toMatchObject({ id });
    await expect(client.models.retrieve('nobody/serves-this')).rejects.toBeInstanceOf(NotFoundError);
  });
});

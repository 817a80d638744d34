import { z } from 'zod';
import { conversation, textsOf } from '../completions/request.js';
import type { Machine } from '../completions/generation.service.js';
import type { Exchange } from '../server/exchange.server.js';
import { badRequest, invalidBody, Problem, unknownModel } from '../server/problem.js';

const schema = z.union([
  z.looseObject({ model: z.string().nullish(), prompt: z.string() }),
  z.looseObject({ model: z.string().nullish(), ...conversation }),
]);

/** vLLM's `/tokenize`: the tokens of a prompt or of a conversation, as a completion of it would count them. */
export async function tokenize(machine: Machine, body: unknown, exchange: Exchange): Promise<void> {
  const { limits, tokenizer, faults } = machine;
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw invalidBody(parsed.error);
  const { data } = parsed;
  const model = data.model ?? limits.models[0]!;
  if (!limits.models.includes(model)) throw unknownModel(model);
  const { errorStatus } = faults.take(model);
  if (errorStatus !== undefined) throw new Problem(errorStatus, 'InternalServerError', 'The worker was told to fail.');
  const texts = 'messages' in data ? textsOf(data as Parameters<typeof textsOf>[0]) : [data.prompt];
  const tokens = await tokenizer.encode(texts, limits.maxModelLen);
  if (tokens.length > limits.maxModelLen) {
    throw badRequest(`This model's maximum context length is ${limits.maxModelLen} tokens.`, 'input_tokens');
  }
  exchange.json(200, {
    count: tokens.length,
    max_model_len: limits.maxModelLen,
    tokens: [...tokens],
    token_strs: null,
  });
}

import type { Machine } from '../completions/generation.service.js';
import type { Exchange } from '../server/exchange.server.js';
import { Problem, unknownModel } from '../server/problem.js';
import { countedTexts } from './request.js';

/** `/v1/messages/count_tokens`: as many as a message of the same conversation would be charged for its input. */
export async function countTokens(machine: Machine, body: unknown, exchange: Exchange): Promise<void> {
  const { limits, tokenizer, faults } = machine;
  const { model, texts } = countedTexts(body);
  if (!limits.models.includes(model)) throw unknownModel(model);
  const { errorStatus } = faults.take(model);
  if (errorStatus !== undefined) throw new Problem(errorStatus, 'InternalServerError', 'The worker was told to fail.');
  const tokens = await tokenizer.encode(texts, limits.maxModelLen);
  exchange.json(200, { input_tokens: tokens.length });
}

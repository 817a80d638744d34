import { rfc3339 } from '@sluice/primitives/clock';
import { z } from 'zod';
import { answerSeed } from '../completions/plan.js';
import type { Machine } from '../completions/generation.service.js';
import type { Exchange } from '../server/exchange.server.js';
import { badRequest, invalidBody, Problem, unknownModel } from '../server/problem.js';
import type { EngineSequence } from '../timing/engine.service.js';
import { VOCABULARY_SIZE } from '../tokenizer/tokenizer.service.js';
import { embeddingOf, encodeVector } from './vector.js';

const ids = z
  .array(
    z
      .int()
      .min(0)
      .max(VOCABULARY_SIZE - 1),
  )
  .min(1);
const schema = z.looseObject({
  model: z.string(),
  input: z.union([
    z.string().min(1),
    ids,
    z.array(z.string().min(1)).min(1).max(2_048),
    z.array(ids).min(1).max(2_048),
  ]),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z.int().nullish(),
});

const ENDPOINT = '/v1/embeddings';

/** Embeddings: one prefill for all inputs, no tokens generated, no use of the prefix cache. */
export class Embeddings {
  private readonly machine: Machine;
  private readonly dimensions: number;

  constructor(machine: Machine, dimensions: number) {
    this.machine = machine;
    this.dimensions = dimensions;
  }

  async serve(body: unknown, exchange: Exchange): Promise<void> {
    const { limits, engine, faults, clock } = this.machine;
    const parsed = schema.safeParse(body);
    if (!parsed.success) throw invalidBody(parsed.error);
    const { model, input, encoding_format: format, dimensions } = parsed.data;
    if (!limits.models.includes(model)) throw unknownModel(model);
    if (dimensions !== undefined && dimensions !== null && dimensions !== this.dimensions) {
      throw badRequest(`Model "${model}" does not support changing output dimensions.`, 'dimensions');
    }
    const prompts = await this.tokenize(typeof input === 'string' || typeof input[0] === 'number' ? [input] : input);
    const total = prompts.reduce((sum, tokens) => sum + tokens.length, 0);
    if (engine.running + engine.waiting >= limits.slots + limits.maxWaiting) {
      throw new Problem(429, 'TooManyRequestsError', 'Too many requests wait here.', null, { 'retry-after': '1' });
    }
    const startedAt = rfc3339(clock.now());
    const record = (outcome: 'finished' | 'aborted' | 'error', promptTokens = total) =>
      this.machine.log.write({
        requestId: exchange.requestId,
        startedAt,
        time: rfc3339(clock.now()),
        model,
        endpoint: ENDPOINT,
        promptTokens,
        cachedTokens: 0,
        completionTokens: 0,
        outcome,
        stream: false,
      });
    const { errorStatus, omitUsage } = faults.take(model);
    if (errorStatus !== undefined) {
      record('error');
      throw new Problem(errorStatus, 'InternalServerError', 'The worker was told to fail.');
    }
    if (!(await this.prefill(model, total, exchange.closed))) return record('aborted');
    record('finished');
    exchange.json(200, {
      id: `embd-${exchange.requestId}`,
      object: 'list',
      created: Math.floor(clock.now() / 1000),
      model,
      data: prompts.map((tokens, index) => ({
        index,
        object: 'embedding',
        embedding: encodeVector(embeddingOf(answerSeed(tokens, model, 0, 0), this.dimensions), format ?? 'float'),
      })),
      ...(omitUsage ? {} : { usage: { prompt_tokens: total, total_tokens: total, completion_tokens: 0 } }),
    });
  }

  private async tokenize(inputs: readonly unknown[]): Promise<Uint32Array[]> {
    const { tokenizer, limits } = this.machine;
    const all: Uint32Array[] = [];
    for (const input of inputs as readonly (string | number[])[]) {
      const tokens =
        typeof input === 'string' ? await tokenizer.encode([input], limits.maxModelLen) : Uint32Array.from(input);
      if (tokens.length > limits.maxModelLen) {
        throw badRequest(
          `This model's maximum context length is ${limits.maxModelLen} tokens. However, your input contains at least ` +
            `${tokens.length} tokens. Please reduce the length of the input.`,
          'input_tokens',
        );
      }
      all.push(tokens);
    }
    return all;
  }

  /** False when the client left before. */
  private prefill(model: string, tokens: number, closed: AbortSignal): Promise<boolean> {
    const { engine } = this.machine;
    return new Promise((resolve) => {
      const gone = () => {
        engine.cancel(sequence);
        resolve(false);
      };
      const sequence: EngineSequence = {
        model,
        tokens: 0,
        running: false,
        heldTokens: () => tokens,
        admitted() {
          sequence.running = true;
          return tokens;
        },
        token: () => {},
        done() {
          closed.removeEventListener('abort', gone);
          resolve(true);
        },
      };
      if (closed.aborted) return resolve(false);
      closed.addEventListener('abort', gone, { once: true });
      engine.submit(sequence);
    });
  }
}

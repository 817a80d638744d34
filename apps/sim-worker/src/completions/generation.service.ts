import type { Clock } from '@sluice/primitives/clock';
import { rfc3339 } from '@sluice/primitives/clock';
import type { Logger } from 'pino';
import type { PrefixCache } from '../cache/prefix-cache.js';
import type { FaultSwitch } from '../faults/faults.js';
import type { GenerationLog } from '../log/generation-log.service.js';
import type { WorkerMetrics } from '../metrics/worker-metrics.service.js';
import type { Exchange } from '../server/exchange.server.js';
import { badRequest, Problem, unknownModel } from '../server/problem.js';
import type { Engine } from '../timing/engine.service.js';
import type { Tokenizer } from '../tokenizer/tokenizer.service.js';
import type { Protocol } from './answer.js';
import { Generation, type Choice, type Outcome, type PromptState, type Surroundings } from './generation.js';
import { answerSeed } from './plan.js';
import type { GenerationRequest } from './request.js';
import { planTurn } from './turn.js';

export interface GenerationLimits {
  readonly models: readonly string[];
  /** Prompt and answer together. */
  readonly maxModelLen: number;
  readonly slots: number;
  readonly maxWaiting: number;
}

/** Everything a request meets on its way. */
export interface Machine {
  readonly limits: GenerationLimits;
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly cache: PrefixCache;
  readonly faults: FaultSwitch;
  readonly log: GenerationLog;
  readonly metrics: WorkerMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Ends the process as a crash would. */
  readonly crash: () => void;
}

/** Everything that generates, from the parsed body to the last byte. */
export class Generations {
  private readonly machine: Machine;
  private readonly running = new Set<Generation>();

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** Resolves when the request is on its way; refusals reject with a Problem. */
  async serve(protocol: Protocol, body: unknown, exchange: Exchange): Promise<void> {
    const { machine } = this;
    const arrivedAt = machine.clock.monotonic();
    const request = protocol.parse(body);
    if (!machine.limits.models.includes(request.model)) throw unknownModel(request.model);
    const prompts = await this.tokenize(request);
    refuseWhenFull(machine, prompts.length * request.n);

    const faults = machine.faults.take(request.model);
    const id = request.id ?? protocol.idPrefix + exchange.requestId;
    const head = { id, created: seconds(machine.clock), model: request.model };
    const answer = protocol.answer(exchange, head, request, faults.omitUsage ?? false);
    const plans = prompts.map(({ tokens }) => this.plan(request, tokens));
    const around = this.surroundings(request, protocol.endpoint, exchange, arrivedAt);
    const generation = new Generation(request.model, prompts, plans, faults, answer, around);

    this.running.add(generation);
    exchange.closed.addEventListener('abort', () => generation.abort(), { once: true });
    if (exchange.closed.aborted) return generation.abort();
    if (faults.errorStatus !== undefined) {
      generation.fail();
      throw new Problem(faults.errorStatus, 'InternalServerError', 'The worker was told to fail.');
    }
    if (faults.stallBeforeFirstByteMs !== undefined) await pause(faults.stallBeforeFirstByteMs, exchange.closed);
    if (exchange.closed.aborted) return;
    generation.begin();
    for (const choice of generation.choices) if (!generation.over) machine.engine.submit(choice);
  }

  /** The worker goes down: what runs is written down as aborted and cut. */
  abortAll(): void {
    for (const generation of this.running) generation.abort();
  }

  private async tokenize(request: GenerationRequest): Promise<PromptState[]> {
    const { tokenizer, limits } = this.machine;
    const states: PromptState[] = [];
    for (const prompt of request.prompts) {
      const tokens = 'tokens' in prompt ? prompt.tokens : await tokenizer.encode(prompt.texts, limits.maxModelLen);
      refuseTooLong(tokens.length, request, limits.maxModelLen);
      states.push({ tokens, cached: undefined });
    }
    return states;
  }

  private plan(request: GenerationRequest, prompt: Uint32Array) {
    const { limits, tokenizer } = this.machine;
    const maxTokens = request.maxTokens ?? limits.maxModelLen - prompt.length;
    return Array.from({ length: request.n }, (_, choice) => {
      const seed = answerSeed(prompt, request.model, request.seed, choice);
      return planTurn(seed, { ...request, maxTokens }, request.turn, (text) => tokenizer.split(text));
    });
  }

  private surroundings(
    request: GenerationRequest,
    endpoint: string,
    exchange: Exchange,
    arrivedAt: number,
  ): Surroundings {
    const { cache, engine, log, metrics, clock, logger, tokenizer, crash } = this.machine;
    const startedAt = rfc3339(clock.now());
    const salt = JSON.stringify([request.model, request.cacheSalt]);
    const chains = new Map<PromptState, string[]>();
    const chainOf = (prompt: PromptState): string[] => {
      let chain = chains.get(prompt);
      if (chain === undefined) chains.set(prompt, (chain = cache.chain(prompt.tokens, salt)));
      return chain;
    };
    return {
      admitted(choice, at) {
        const cached = cache.cachedTokens(chainOf(choice.prompt), choice.promptTokens);
        metrics.admitted(request.model, { queuedMs: at - arrivedAt, promptTokens: choice.promptTokens, cached });
        return cached;
      },
      token(choice, at) {
        if (choice.generated === 1) cache.add(chainOf(choice.prompt));
        metrics.token(request.model, {
          first: choice.generated === 1,
          sinceMs: at - (choice.generated === 1 ? arrivedAt : choice.latestAt),
        });
      },
      spoken(choice, at) {
        cache.add(cache.chain(withAnswer(choice, tokenizer.vocabularyIds), salt, chainOf(choice.prompt)));
        metrics.finished(request.model, choice.plan.finish === 'length' ? 'length' : 'stop', {
          promptTokens: choice.promptTokens,
          generated: choice.generated,
          wholeMs: at - arrivedAt,
          runningMs: at - choice.admittedAt,
        });
      },
      cancel: (choices) => {
        for (const choice of choices) engine.cancel(choice);
      },
      record: (outcome: Outcome, counts) => {
        if (outcome !== 'finished') metrics.finished(request.model, 'abort');
        try {
          const { model, stream, audioSeconds } = request;
          const head = { requestId: exchange.requestId, startedAt, time: rfc3339(clock.now()) };
          const audio = audioSeconds === undefined ? {} : { audioSeconds };
          log.write({ ...head, model, endpoint, ...counts, ...audio, outcome, stream });
          return true;
        } catch (err) {
          logger.error({ err, requestId: exchange.requestId }, 'the generation log takes no more');
          return false;
        }
      },
      cut: () => exchange.cut(),
      exit: crash,
      after: (ms, then) => void setTimeout(then, ms).unref(),
      left: (generation) => this.running.delete(generation),
    };
  }
}

const seconds = (clock: Clock): number => Math.floor(clock.now() / 1000);

/** Prompt and answer as one context: the next turn of a conversation begins with it. */
function withAnswer(choice: Choice, ids: readonly number[]): Uint32Array {
  const all = new Uint32Array(choice.promptTokens + choice.plan.tokens.length);
  all.set(choice.prompt.tokens);
  all.set(
    choice.plan.tokens.map((token) => ids[token]!),
    choice.promptTokens,
  );
  return all;
}

function refuseTooLong(promptTokens: number, request: GenerationRequest, maxModelLen: number): void {
  if (promptTokens === 0) throw badRequest('The prompt has no text.', 'messages');
  const wanted = Math.max(1, request.maxTokens ?? request.minTokens);
  if (promptTokens + wanted <= maxModelLen) return;
  throw badRequest(
    `This model's maximum context length is ${maxModelLen} tokens. However, you requested ${wanted} output tokens and ` +
      `your prompt contains at least ${promptTokens} input tokens, for a total of at least ${promptTokens + wanted} ` +
      'tokens. Please reduce the length of the input prompt or the number of requested output tokens.',
    'input_tokens',
  );
}

function refuseWhenFull({ engine, limits }: Machine, sequences: number): void {
  if (engine.running + engine.waiting + sequences <= limits.slots + limits.maxWaiting) return;
  throw new Problem(429, 'TooManyRequestsError', 'Too many requests wait here.', null, { 'retry-after': '1' });
}

function pause(ms: number, until: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      until.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    until.addEventListener('abort', done);
  });
}

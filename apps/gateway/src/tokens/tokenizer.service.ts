import { Worker } from 'node:worker_threads';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown } from '@nestjs/common';
import { loggerFor } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import { CHARACTERS_PER_TOKEN, inputTokens } from '../inference/estimate.js';
import type { ReportedUsage } from '../inference/usage.js';
import type { Said } from './said.js';
import type { CountRequest, CountResponse } from './tokenizer.worker.js';

/** Characters of one request that are counted; beyond, the rest is taken to be of the same kind. About half a second. */
const MAX_CHARACTERS = 1024 * 1024;
/** Of all requests that wait; who comes then is counted by length, and so is who has waited for too long. */
const MAX_WAITING_CHARACTERS = 16 * 1024 * 1024;
const TIMEOUT_MS = 5_000;
/** The thread and its vocabulary take some 80 MB: they go when nobody has needed them for so long. */
const IDLE_MS = 60_000;
const HEAP_MB = 256;

export interface TokenizerOptions {
  readonly script: URL;
  readonly execArgv?: string[];
  readonly timeoutMs?: number;
}

interface Waiting {
  readonly characters: number;
  readonly counted: (tokens: readonly number[] | undefined) => void;
}

/**
 * Counts what a worker did not count, by o200k_base: no model's own vocabulary, but near that of most. In a thread that is
 * there while it is needed, so that a gateway whose workers count pays nothing, and no other request waits.
 */
@Injectable()
export class Tokenizer implements OnApplicationShutdown {
  private readonly log = loggerFor('tokenizer');
  private thread: Worker | undefined;
  private idle: NodeJS.Timeout | undefined;
  private readonly waiting = new Map<number, Waiting>();
  private waitingCharacters = 0;
  private nextId = 0;
  private readonly counted = new Counter({
    name: 'gateway_uncounted_answers_total',
    help: 'Answers whose worker counted no tokens, by what was counted with here: a tokenizer, or their length',
    labelNames: ['by'],
  });

  constructor(private readonly options: TokenizerOptions) {}

  /** @param prompt the request's body */
  async count(prompt: Readonly<Record<string, unknown>>, said: Said): Promise<ReportedUsage> {
    const read: string[] = [];
    const others = inputTokens(prompt, (text) => {
      read.push(text);
      return 0;
    });
    const input = some(read, MAX_CHARACTERS);
    // One text: the pieces of a stream end within words.
    const output = some([said.texts.join('')], MAX_CHARACTERS);
    const characters = lengthOf(input) + lengthOf(output);
    const tokens = characters === 0 ? [0, 0] : await this.ask([input, output], characters);
    this.counted.inc({ by: tokens ? 'tokenizer' : 'length' });
    return {
      input: Math.max(1, others + scaled(tokens?.[0], lengthOf(input), lengthOf(read))),
      cachedInput: 0,
      output: scaled(tokens?.[1], lengthOf(output), said.characters),
    };
  }

  async onApplicationShutdown(): Promise<void> {
    clearTimeout(this.idle);
    await this.thread?.terminate();
  }

  /** Undefined where nobody counts now. */
  private ask(lists: CountRequest['lists'], characters: number): Promise<readonly number[] | undefined> {
    if (this.waitingCharacters + characters > MAX_WAITING_CHARACTERS) return Promise.resolve(undefined);
    clearTimeout(this.idle);
    this.thread ??= this.start();
    const id = this.nextId++;
    this.waitingCharacters += characters;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.settle(id, undefined), this.options.timeoutMs ?? TIMEOUT_MS);
      const counted = (tokens: readonly number[] | undefined) => {
        clearTimeout(timer);
        resolve(tokens);
      };
      this.waiting.set(id, { characters, counted });
      this.thread!.postMessage({ id, lists } satisfies CountRequest);
    });
  }

  private settle(id: number, tokens: readonly number[] | undefined): void {
    const one = this.waiting.get(id);
    if (!one) return;
    this.waiting.delete(id);
    this.waitingCharacters -= one.characters;
    one.counted(tokens);
    if (this.waiting.size > 0) return;
    clearTimeout(this.idle);
    this.idle = setTimeout(() => this.end(this.thread), IDLE_MS);
    this.idle.unref();
  }

  private start(): Worker {
    const { script, execArgv } = this.options;
    const thread = new Worker(script, {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
      ...(execArgv === undefined ? {} : { execArgv }),
    });
    thread.unref();
    thread.on('message', ({ id, tokens }: CountResponse) => this.settle(id, tokens));
    thread.on('error', (err) =>
      this.log.error({ err }, 'the tokenizer failed: what it was to count is counted by length'),
    );
    thread.on('exit', () => this.end(thread));
    return thread;
  }

  /** The next one who needs it starts another. */
  private end(thread: Worker | undefined): void {
    if (!thread || this.thread !== thread) return;
    this.thread = undefined;
    void thread.terminate();
    for (const id of this.waiting.keys()) this.settle(id, undefined);
  }
}

/** Texts from the front, as far as there is room for. */
function some(texts: readonly string[], characters: number): string[] {
  let left = characters;
  return texts.flatMap((text) => {
    const part = text.slice(0, left);
    left -= part.length;
    return part === '' ? [] : [part];
  });
}

const lengthOf = (texts: readonly string[]): number => texts.reduce((sum, { length }) => sum + length, 0);

/** Tokens of `all` characters, where those of the first `of` are known, or of nobody's. */
function scaled(tokens: number | undefined, of: number, all: number): number {
  if (tokens === undefined) return Math.ceil(all / CHARACTERS_PER_TOKEN);
  return of === 0 ? 0 : Math.round((tokens * all) / of);
}

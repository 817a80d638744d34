import { dataOf } from './sse.js';
import type { ReportedUsage } from './usage.js';

const FINISHED = Buffer.from('"finish_reason":"');

interface Chunk {
  readonly id?: unknown;
  readonly object?: unknown;
  readonly created?: unknown;
  readonly model?: unknown;
  readonly choices?: readonly { readonly index?: number; readonly finish_reason?: unknown; readonly text?: unknown }[];
}

/**
 * How a stream of completions is ended by the gateway: as the worker would at `max_tokens`, with `finish_reason: "length"` for
 * every choice that has not finished. Kept only for streams that may be ended so.
 */
export class LengthEnd {
  private last: Buffer | undefined;
  private readonly finished = new Set<number>();

  /** @param body what the worker was asked */
  constructor(
    private readonly body: Readonly<Record<string, unknown>>,
    private readonly wantsUsage: boolean,
  ) {}

  /** One event that the client got, or what it was made of. */
  saw(event: Buffer): void {
    if (event.length === 0) return;
    this.last = event;
    if (!event.includes(FINISHED)) return;
    for (const { index, finish_reason: reason } of chunkOf(event).choices ?? [])
      if (reason != null) this.finished.add(index ?? 0);
  }

  /** The chunk that finishes what is open and the usage where it was asked for, and the end; each one event. */
  events(usage: ReportedUsage | undefined): [chunks: Buffer[], done: Buffer] {
    const { id, object, created, model, choices } = chunkOf(this.last);
    const about = { id, object, created, model };
    const said = object === 'text_completion' || choices?.some(({ text }) => text !== undefined);
    const open = Array.from({ length: choicesOf(this.body) }, (_, index) => index).filter(
      (index) => !this.finished.has(index),
    );
    const cut = open.map((index) => ({
      index,
      ...(said ? { text: '' } : { delta: {} }),
      logprobs: null,
      finish_reason: 'length',
    }));
    const counted = usage && {
      prompt_tokens: usage.input,
      completion_tokens: usage.output,
      total_tokens: usage.input + usage.output,
    };
    const chunks = [
      ...(cut.length === 0 ? [] : [sse(JSON.stringify({ ...about, choices: cut }))]),
      ...(this.wantsUsage && counted ? [sse(JSON.stringify({ ...about, choices: [], usage: counted }))] : []),
    ];
    return [chunks, sse('[DONE]')];
  }
}

/** How many answers were asked for: `n` of each prompt. What is none of these a worker has refused. */
function choicesOf({ n, prompt }: Readonly<Record<string, unknown>>): number {
  const prompts = Array.isArray(prompt) && typeof prompt[0] !== 'number' ? prompt.length : 1;
  return prompts * (typeof n === 'number' && n > 1 ? n : 1);
}

/** Empty for what cannot be read. */
function chunkOf(event: Buffer | undefined): Chunk {
  try {
    return (JSON.parse((event && dataOf(event)) ?? '') as Chunk | null) ?? {};
  } catch {
    return {};
  }
}

const sse = (data: string): Buffer => Buffer.from(`data: ${data}\n\n`);

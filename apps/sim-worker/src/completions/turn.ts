import { createHash } from 'node:crypto';
import { naturalLength, pseudoRandom } from '../tokenizer/generator.js';
import { planAnswer, type Part, type Plan, type PlanLimits } from './plan.js';
import { inputFor } from './tool-input.js';

/** What a chat answers with besides text. */
export interface Turn {
  /** Thoughts come first; they are tokens like others. */
  readonly thinks: boolean;
  /** Thoughts are told, not only thought. */
  readonly showsThoughts: boolean;
  /** The tools it calls, instead of saying something. */
  readonly calls: readonly { readonly name: string; readonly schema: unknown }[];
  /** How calls end: vLLM says `stop` where a certain tool was asked for. */
  readonly callsFinish: 'tool_calls' | 'stop';
  /** What it says is JSON that fits. */
  readonly schema?: unknown;
}

export const PLAIN: Turn = { thinks: false, showsThoughts: true, calls: [], callsFinish: 'tool_calls' };

const TEXT: Part = { kind: 'text' };
const REASONING: Part = { kind: 'reasoning' };
const HIDDEN = TEXT;
const SHORTEST_THOUGHT = 8;

/**
 * A turn of a chat: thoughts, then calls of tools or text, one token after the other up to the limit.
 * @param split a text into the texts of its tokens
 */
export function planTurn(seed: number, limits: PlanLimits, turn: Turn, split: (text: string) => string[]): Plan {
  const thoughts = turn.thinks ? thoughtsOf(seed, limits, turn.showsThoughts) : undefined;
  const used = thoughts?.deltas.length ?? 0;
  if (thoughts && used >= limits.maxTokens) return { ...thoughts, tokens: [], finish: 'length' };
  const rest = { ...limits, maxTokens: limits.maxTokens - used, minTokens: Math.max(0, limits.minTokens - used) };
  const said = saidIn(seed, rest, turn, split);
  if (!thoughts) return said;
  return { ...said, deltas: [...thoughts.deltas, ...said.deltas], parts: [...thoughts.parts, ...said.parts] };
}

function saidIn(seed: number, limits: PlanLimits, turn: Turn, split: (text: string) => string[]): Plan {
  if (turn.calls.length > 0) return planCalls(seed, limits.maxTokens, turn, split);
  return turn.schema === undefined ? planAnswer(seed, limits) : planJson(seed, limits.maxTokens, turn.schema, split);
}

function planJson(seed: number, maxTokens: number, schema: unknown, split: (text: string) => string[]): Plan {
  const pieces = split(inputFor(schema, pseudoRandom(seed)));
  const deltas = pieces.slice(0, maxTokens);
  const finish = deltas.length < pieces.length ? 'length' : 'stop';
  return { tokens: [], deltas, parts: deltas.map(() => TEXT), finish, stopReason: null };
}

function thoughtsOf(seed: number, limits: PlanLimits, shown: boolean): Plan {
  const length = SHORTEST_THOUGHT + (naturalLength(seed) % SHORTEST_THOUGHT);
  const maxTokens = Math.min(limits.maxTokens, length);
  const plan = planAnswer(~seed, { maxTokens, minTokens: maxTokens, ignoreEos: true, stop: [], includeStop: false });
  const part = shown ? REASONING : HIDDEN;
  return { ...plan, deltas: plan.deltas.map((text) => (shown ? text : '')), parts: plan.parts.map(() => part) };
}

function planCalls(seed: number, maxTokens: number, turn: Turn, split: (text: string) => string[]): Plan {
  const next = pseudoRandom(seed);
  const pieces = turn.calls.flatMap(({ name, schema }, index) => {
    const part: Part = { kind: 'call', index, id: callId(seed, index), name };
    return split(inputFor(schema, next)).map((text) => ({ part, text }));
  });
  const told = pieces.slice(0, maxTokens);
  return {
    tokens: [],
    deltas: told.map(({ text }) => text),
    parts: told.map(({ part }) => part),
    finish: told.length < pieces.length ? 'length' : turn.callsFinish,
    stopReason: null,
  };
}

const callId = (seed: number, index: number): string =>
  `chatcmpl-tool-${createHash('sha256')
    .update(JSON.stringify([seed, index]))
    .digest('hex')
    .slice(0, 32)}`;

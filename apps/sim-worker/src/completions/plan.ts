import { createHash } from 'node:crypto';
import { generateTokens, naturalLength } from '../tokenizer/generator.js';
import { VOCABULARY } from '../tokenizer/vocabulary.js';
import { applyStop, type StopRule } from './stop.js';

/** What a piece of an answer is a piece of. */
export type Part =
  | { readonly kind: 'text' | 'reasoning' }
  | { readonly kind: 'call'; readonly index: number; readonly id: string; readonly name: string };

const TEXT: Part = { kind: 'text' };

/** All that one choice will say, known before it says it. */
export interface Plan {
  /** Places in VOCABULARY, one per token of its text. */
  readonly tokens: readonly number[];
  /** The text that each generated token adds. */
  readonly deltas: readonly string[];
  /** What each of them is a piece of. */
  readonly parts: readonly Part[];
  readonly finish: 'stop' | 'length' | 'tool_calls';
  readonly stopReason: string | null;
}

export interface PlanLimits extends StopRule {
  /** ≥ 1 */
  readonly maxTokens: number;
  readonly ignoreEos: boolean;
}

/** The same prompt, model, seed and choice always get the same answer. */
export function answerSeed(prompt: Uint32Array, model: string, seed: number, choice: number): number {
  return createHash('sha256')
    .update(JSON.stringify([model, seed, choice]))
    .update(prompt)
    .digest()
    .readUInt32LE(0);
}

export function planAnswer(seed: number, limits: PlanLimits): Plan {
  const natural = Math.max(1, limits.minTokens, naturalLength(seed));
  const ends = !limits.ignoreEos && natural < limits.maxTokens;
  const length = ends ? natural : limits.maxTokens;
  const all = generateTokens(seed);
  const tokens = Array.from({ length }, () => all.next().value);
  const { deltas, stopReason } = applyStop(
    tokens.map((token) => VOCABULARY[token]!),
    limits,
  );
  return {
    tokens: tokens.slice(0, deltas.length),
    deltas,
    parts: deltas.map(() => TEXT),
    finish: ends || stopReason !== null ? 'stop' : 'length',
    stopReason,
  };
}

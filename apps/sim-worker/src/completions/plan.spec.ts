import { describe, expect, it } from '@jest/globals';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { answerSeed, planAnswer, type PlanLimits } from './plan.js';

const limits = (more: Partial<PlanLimits>): PlanLimits => ({
  maxTokens: 10_000,
  minTokens: 0,
  ignoreEos: false,
  stop: [],
  includeStop: false,
  ...more,
});

describe('the plan of an answer', () => {
  it('has exactly N tokens where ignore_eos and min = max = N say so, and ends for its length', () => {
    for (const n of [1, 2, 44, 1_000]) {
      const plan = planAnswer(n, limits({ maxTokens: n, minTokens: n, ignoreEos: true }));
      expect([plan.deltas.length, plan.finish, countTokens(plan.deltas.join(''))]).toEqual([n, 'length', n]);
    }
  });

  it('ends by itself where it may, and says so', () => {
    const plan = planAnswer(5, limits({}));
    expect(plan.finish).toBe('stop');
    expect(plan.stopReason).toBeNull();
    expect(plan.deltas.length).toBeLessThan(257);
  });

  it('is cut at max_tokens', () => {
    const plan = planAnswer(5, limits({ maxTokens: 3 }));
    expect([plan.deltas.length, plan.finish]).toEqual([3, 'length']);
  });

  it('does not end before min_tokens', () => {
    const plan = planAnswer(5, limits({ minTokens: 900 }));
    expect([plan.deltas.length, plan.finish]).toEqual([900, 'stop']);
  });

  it('ends at a stop string even with ignore_eos', () => {
    const plan = planAnswer(5, limits({ maxTokens: 500, ignoreEos: true, stop: ['.'] }));
    expect([plan.finish, plan.stopReason]).toEqual(['stop', '.']);
    expect(plan.tokens).toHaveLength(plan.deltas.length);
  });

  it('depends on the prompt, the model, the seed and the choice', () => {
    const prompt = Uint32Array.of(1, 2, 3);
    const seeds = [
      answerSeed(prompt, 'm', 0, 0),
      answerSeed(Uint32Array.of(1, 2, 4), 'm', 0, 0),
      answerSeed(prompt, 'n', 0, 0),
      answerSeed(prompt, 'm', 1, 0),
      answerSeed(prompt, 'm', 0, 1),
    ];
    expect(new Set(seeds).size).toBe(5);
    expect(answerSeed(Uint32Array.of(1, 2, 3), 'm', 0, 0)).toBe(seeds[0]);
  });
});

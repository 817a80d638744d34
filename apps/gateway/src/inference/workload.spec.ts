import { describe, expect, it } from '@jest/globals';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { resolveModel } from './workload.js';

const WORKLOADS = [
  { project: 'default', name: 'chat', model: 'meta-llama/Llama-3.1-8B' },
  { project: 'default', name: 'bot', model: 'qwen' },
  { project: 'other', name: 'bot', model: 'qwen' },
].map((workload) => ({ ...workload, createdAt: '2026-01-01T00:00:00.000Z' }));
const key = (access: string[], models: string[] | null = null) => aCredential({ access, models });

describe('resolveModel', () => {
  it('takes a model id with slashes, encoded or not, and a workload by its path', () => {
    for (const model of ['meta-llama/Llama-3.1-8B', 'meta-llama%2FLlama-3.1-8B', 'default/chat']) {
      expect(resolveModel(model, key(['default/*']), WORKLOADS).name).toBe('chat');
    }
  });

  it('looks only among the workloads the key may call: one of two is not ambiguous', () => {
    expect(resolveModel('qwen', key(['other/bot']), WORKLOADS).project).toBe('other');
  });

  it.each([
    ['ambiguous_model', 'qwen', key(['default/*', 'other/*'])],
    ['model_not_found', 'gpt-9', key(['default/*'])],
    ['model_not_found', 'qwen', key(['default/chat'])],
    ['model_not_found', '%E0%A4%A', key(['default/*'])],
    ['scope_insufficient', 'other/bot', key(['default/*'])],
    ['model_not_allowed', 'qwen', key(['default/*'], ['meta-llama/Llama-3.1-8B'])],
    ['model_not_allowed', 'default/bot', key(['default/*'], ['meta-llama/Llama-3.1-8B'])],
  ] as const)('refuses with %s: %s', (code, model, credential) => {
    expect(() => resolveModel(model, credential, WORKLOADS)).toThrow(expect.objectContaining({ code }));
  });
});

import { describe, expect, it } from '@jest/globals';
import type { Refusal } from '@sluice/contracts/refusals';
import { RefusalBuffer } from './refusal-buffer.js';

const of = (keyId: string): Refusal => ({
  requestId: '01990000-0000-7000-8000-000000000000',
  organizationId: 'o1',
  project: null,
  keyId,
  code: 'rate_limit_exceeded',
  status: 429,
  message: '',
  operation: 'POST /v1/chat/completions',
  model: null,
  at: '2026-01-01T00:00:00.000Z',
});

describe('refusals that wait', () => {
  it('are at most 20 of a key in a second, so that one key can’t push out the others', () => {
    const buffer = new RefusalBuffer();
    const kept = Array.from({ length: 30 }, () => buffer.add(of('loud'), 0)).filter(Boolean);
    expect(kept).toHaveLength(20);
    expect(buffer.add(of('quiet'), 999)).toBe(true);
    expect(buffer.add(of('loud'), 999)).toBe(false);
    expect(buffer.add(of('loud'), 1_000)).toBe(true);
  });

  it('are at most 1,000, however many keys and seconds there are', () => {
    const buffer = new RefusalBuffer();
    for (let i = 0; i < 1_000; i++) expect(buffer.add(of(`k${i}`), i)).toBe(true);
    expect(buffer.add(of('one more'), 5_000)).toBe(false);
    expect(buffer.take()).toHaveLength(1_000);
    expect([buffer.size, buffer.add(of('one more'), 5_000)]).toEqual([0, true]);
  });
});

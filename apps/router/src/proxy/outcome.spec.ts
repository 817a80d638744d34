import { describe, expect, it } from '@jest/globals';
import { judge, mayComeBack, refusalAfter } from './outcome.js';

describe('whose fault a status is', () => {
  it.each([200, 201, 204, 400, 404, 409, 413, 422])('%d is the gateway’s to have', (status) => {
    expect(judge(status)).toBe('pass');
  });
  it.each([301, 307, 500, 502, 503, 599, 999])('%d is the worker’s fault', (status) => {
    expect(judge(status)).toBe('failed');
  });
  it.each([401, 403, 407])('%d is about our secret, never told as the client’s', (status) => {
    expect(judge(status)).toBe('failed');
  });
  it('429 is backpressure', () => {
    expect(judge(429)).toBe('full');
  });
});

describe('when nobody could answer', () => {
  it.each([
    [undefined, 'unavailable', 1],
    [{ kind: 'unreachable' }, 'unavailable', 1],
    [{ kind: 'full', retryAfter: 9 }, 'queue_full', 9],
    [{ kind: 'full', retryAfter: undefined }, 'queue_full', 1],
    [{ kind: 'stalled' }, 'timeout', undefined],
    [{ kind: 'failed', status: 500 }, 'worker_error', undefined],
    [{ kind: 'garbled' }, 'worker_error', undefined],
  ] as const)('%j is told as %s, with when to come back', (failure, code, retryAfter) => {
    expect(refusalAfter(failure)).toMatchObject({ code, retryAfter });
  });

  it('only a worker that was not there is waited for', () => {
    expect(mayComeBack(undefined)).toBe(true);
    expect(mayComeBack({ kind: 'unreachable' })).toBe(true);
    expect(mayComeBack({ kind: 'failed', status: 500 })).toBe(false);
    expect(mayComeBack({ kind: 'full', retryAfter: 1 })).toBe(false);
  });
});

import { describe, expect, it } from '@jest/globals';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import { managementProblem, openaiProblem, problemHeaders, toRejected } from './problem.js';

describe('errors on their way out', () => {
  it('say nothing of what nobody foresaw', () => {
    const rejected = toRejected(new Error('password=hunter2 at /srv/x.js:1'));
    expect(rejected.code).toBe('internal_error');
    expect(JSON.stringify([openaiProblem(rejected), managementProblem(rejected, 'r')])).not.toMatch(
      /hunter2|srv|stack/,
    );
  });

  it.each([
    [{ statusCode: 400 }, 'invalid_request'],
    [{ statusCode: 404 }, 'not_found'],
    [{ statusCode: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE' }, 'request_too_large'],
    [{ statusCode: 415 }, 'unsupported_media_type'],
    [{ statusCode: 418 }, 'invalid_request'],
    [{ statusCode: 503 }, 'unavailable'],
    [undefined, 'internal_error'],
    [{ code: '57P01', message: 'terminating connection' }, 'unavailable'],
    [{ code: '23505', message: 'duplicate key' }, 'internal_error'],
    [new Error('failed', { cause: { code: 'ECONNREFUSED' } }), 'unavailable'],
    [new Error('Connection terminated unexpectedly'), 'unavailable'],
  ])('take the frameworks refusal %j as %s', (error, code) => {
    expect(toRejected(error).code).toBe(code);
  });

  it('have the shape of each dialect', () => {
    const rejected = new Rejected('invalid_request', 'name is wrong.', { param: 'name' });
    expect(openaiProblem(rejected)).toEqual({
      error: { message: 'name is wrong.', type: 'invalid_request_error', param: 'name', code: 'invalid_request' },
    });
    expect(managementProblem(rejected, 'r1')).toEqual({
      success: false,
      error: { code: 'invalid_request', message: 'name is wrong.', param: 'name', requestId: 'r1' },
    });
  });

  it('tell the SDKs how long to wait and when not to try again', () => {
    expect(problemHeaders(new Rejected('rate_limit_exceeded', undefined, { retryAfter: 0.2 }))).toEqual({
      'retry-after': '1',
      'retry-after-ms': '200',
    });
    expect(problemHeaders(new Rejected('insufficient_quota'))).toEqual({ 'x-should-retry': 'false' });
  });

  it('have a sentence and a remedy each', () => {
    for (const entry of Object.values(ERRORS)) {
      expect(entry.message.length).toBeGreaterThan(10);
      expect(entry.remedy.length).toBeGreaterThan(8);
    }
  });
});

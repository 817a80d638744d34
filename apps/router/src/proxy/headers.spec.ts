import { describe, expect, it } from '@jest/globals';
import { answerHeaders, readErrand, retryAfterSeconds, workerHeaders } from './headers.js';

const deadline = { defaultMs: 1_000, maxMs: 5_000 };
const errand = (headers: Record<string, string>) => readErrand({ 'x-sluice-model': 'm', ...headers }, 'own', deadline);

describe('the errand', () => {
  it('takes id, model and deadline from the gateway', () => {
    expect(errand({ 'x-request-id': 'r-1', 'x-sluice-deadline-ms': '4000' })).toEqual({
      requestId: 'r-1',
      model: 'm',
      deadlineMs: 4_000,
    });
  });

  it('has an id and a deadline without the headers, and no deadline beyond the longest', () => {
    expect(errand({})).toEqual({ requestId: 'own', model: 'm', deadlineMs: 1_000 });
    expect(errand({ 'x-sluice-deadline-ms': '999999' }).deadlineMs).toBe(5_000);
  });

  it('a model id may hold what a header may not: it comes percent-encoded', () => {
    expect(errand({ 'x-sluice-model': 'org%2Fmod%C3%A8le' }).model).toBe('org/modèle');
  });

  it.each([
    [{ 'x-sluice-model': '%E0%A4%A' }, 'x-sluice-model'],
    [{ 'x-request-id': 'a b' }, 'x-request-id'],
    [{ 'x-request-id': 'x'.repeat(129) }, 'x-request-id'],
    [{ 'x-sluice-model': '' }, 'x-sluice-model'],
    [{ 'x-sluice-model': 'm'.repeat(257) }, 'x-sluice-model'],
    [{ 'x-sluice-deadline-ms': '0' }, 'x-sluice-deadline-ms'],
    [{ 'x-sluice-deadline-ms': '-1' }, 'x-sluice-deadline-ms'],
    [{ 'x-sluice-deadline-ms': '1e9' }, 'x-sluice-deadline-ms'],
  ])('%j is refused, naming %s', (headers, param) => {
    expect(() => errand(headers)).toThrow(expect.objectContaining({ code: 'invalid_request', param }));
  });
});

describe('what a worker gets', () => {
  it('nothing a client or the gateway authenticated with, only its own secret', () => {
    const sent = workerHeaders(
      {
        authorization: 'Bearer service-token',
        'x-api-key': 'sk_live_1',
        'api-key': 'sk_live_2',
        cookie: 'c=1',
        'x-sluice-model': 'm',
        'content-type': 'application/json',
        traceparent: '00-1-2-01',
        connection: 'keep-alive, x-secret',
      },
      'r',
      2,
      'worker-secret',
    );
    expect(sent).toEqual({
      'x-request-id': 'r.2',
      'content-type': 'application/json',
      traceparent: '00-1-2-01',
      authorization: 'Bearer worker-secret',
    });
  });

  it('no authorization at all where no secret is configured', () => {
    expect(workerHeaders({ authorization: 'Bearer x' }, 'r', 1, undefined)).toEqual({ 'x-request-id': 'r.1' });
  });
});

describe('what the gateway gets', () => {
  const own = { requestId: 'r', worker: 'w', attempt: 1 };

  it('passes what is end to end, drops what is of one hop', () => {
    const passed = answerHeaders(
      {
        'content-type': 'text/event-stream',
        'content-encoding': 'gzip',
        'content-length': '5',
        'transfer-encoding': 'chunked',
        connection: 'close, x-hop',
        'x-hop': '1',
        'keep-alive': 'timeout=5',
      },
      own,
    );
    expect(passed).toEqual({
      'content-type': 'text/event-stream',
      'content-encoding': 'gzip',
      'content-length': '5',
      'x-request-id': 'r',
      'x-sluice-worker': 'w',
      'x-sluice-attempt': '1',
    });
  });

  it('a worker cannot speak in our name', () => {
    expect(answerHeaders({ 'x-sluice-worker': 'other', 'x-sluice-cost': '0', 'x-request-id': 'z' }, own)).toEqual({
      'x-request-id': 'r',
      'x-sluice-worker': 'w',
      'x-sluice-attempt': '1',
    });
  });

  it('retry-after counts only in whole seconds', () => {
    expect(retryAfterSeconds({ 'retry-after': '7' })).toBe(7);
    expect(retryAfterSeconds({ 'retry-after': 'Wed, 21 Oct 2026 07:28:00 GMT' })).toBeUndefined();
    expect(retryAfterSeconds({})).toBeUndefined();
  });
});

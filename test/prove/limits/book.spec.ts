import { describe, expect, it } from '@jest/globals';
import { atOnce, Book, fullest, one, overLimits, surelyCharged, usedAt } from './book.ts';
import { refusalIn, type Call, type IssuedKey } from './caller.ts';
import { NO_LIMITS, planOf, type Scope } from './plan.ts';
import { randomFrom } from '../runner/random.ts';

const scope: Scope = { kind: 'key', name: 'k', ...NO_LIMITS, rpm: 2, tpm: 100, concurrency: 1 };
const key = { name: 'k', scopes: [scope], secret: '' } as unknown as IssuedKey;
const TIMES = { windowMs: 1_000, leaseMs: 500 };

/** Admitted, 10 ms after it was sent. */
const aCall = (sentAt: number, more: Partial<Call> = {}): Call => ({
  key,
  gateway: 0,
  tokens: 10,
  sentAt,
  headAt: sentAt + 10,
  endAt: sentAt + 10,
  status: 200,
  whole: true,
  unsent: false,
  headers: {},
  refusal: undefined,
  degraded: false,
  text: '',
  ...more,
});

describe('what was surely admitted within a window', () => {
  it('is what was sent and answered within it, wherever the window lies', () => {
    expect(fullest([aCall(0), aCall(900), aCall(980)], 1_000, one)).toBe(3);
    // The third may have been admitted after the first had left.
    expect(fullest([aCall(0), aCall(900), aCall(991)], 1_000, one)).toBe(2);
    expect(fullest([aCall(0, { headAt: 600 }), aCall(400, { headAt: 1_700 })], 1_000, one)).toBe(1);
  });

  it('leaves out what was refused, failed, or got no answer', () => {
    const none = [
      aCall(0, { status: 429 }),
      aCall(1, { status: 503 }),
      aCall(2, { status: undefined, headAt: undefined }),
    ];
    expect(fullest(none, 1_000, one)).toBe(0);
  });

  it('has the tokens of answers that came to their end', () => {
    expect(fullest([aCall(0, { tokens: 70 }), aCall(1, { tokens: 70, whole: false })], 1_000, surelyCharged)).toBe(70);
  });
});

describe('what may have been in use at a refusal', () => {
  const refused = aCall(2_000, { status: 429, tokens: 40 });

  it('is everything that may have been given a window before, and not since', () => {
    const calls = [aCall(735), aCall(742), aCall(1_500), aCall(2_005), aCall(2_020)];
    expect(usedAt(refused, 'requests', calls, TIMES)).toBe(3);
    // One 60th of a window longer, and its own.
    expect(usedAt(refused, 'tokens', [aCall(710), aCall(735), aCall(742)], TIMES)).toBe(60);
  });

  it('also what got no answer, but not what never reached a gateway', () => {
    const lost = { status: undefined, headAt: undefined, endAt: 1_600, whole: false };
    expect(usedAt(refused, 'requests', [aCall(1_500, lost), aCall(1_500, { ...lost, unsent: true })], TIMES)).toBe(1);
  });

  it('of places: what runs, what has just ended, and for its lease what broke off', () => {
    const calls = [
      aCall(-2_000, { endAt: undefined }),
      aCall(-2_000, { endAt: -900 }),
      aCall(-2_000, { endAt: -1_100 }),
      aCall(-2_000, { endAt: -1_400, whole: false }),
      aCall(-2_000, { endAt: -1_600, whole: false }),
    ];
    expect(usedAt(refused, 'concurrency', calls, TIMES)).toBe(3);
  });
});

describe('a limit', () => {
  it('that was exceeded is told, of each kind', () => {
    const calls = [aCall(0, { tokens: 50 }), aCall(1, { tokens: 50 }), aCall(2, { tokens: 1 })];
    const runs = [
      { from: 0, to: 10 },
      { from: 9, to: 12 },
    ];
    expect(overLimits(scope, calls, runs, 1_000)).toEqual([
      { scope: 'k', what: 'requests', limit: 2, seen: 3 },
      { scope: 'k', what: 'tokens', limit: 100, seen: 101 },
      { scope: 'k', what: 'concurrency', limit: 1, seen: 2 },
    ]);
    expect(overLimits(scope, calls.slice(0, 2), [runs[0]!], 1_000)).toEqual([]);
    expect(overLimits({ ...scope, ...NO_LIMITS }, calls, runs, 1_000)).toEqual([]);
  });

  it('of places is kept by one that begins in the millisecond in which another ends', () => {
    const runs = [
      { from: 5, to: 9 },
      { from: 1, to: 5 },
      { from: 5, to: 5 },
    ];
    expect(atOnce(runs)).toBe(1);
  });
});

describe('a refusal', () => {
  const refusal = (by: 'requests' | 'concurrency') => ({ status: 429, refusal: { of: 'key' as const, by } });

  it('is laid against what its scope had in use, unless a gateway decided alone', () => {
    const book = new Book();
    for (const call of [
      aCall(0),
      aCall(20, refusal('requests')),
      aCall(30, { ...refusal('requests'), degraded: true }),
    ])
      book.note(call);
    expect([...book.refusals(TIMES)]).toEqual([{ scope: 'k', by: 'requests', limit: 2, used: 1, at: 20 }]);
  });

  it('by a limit that the key does not have is never right', () => {
    const book = new Book();
    book.note(aCall(0, { status: 429, refusal: { of: 'project', by: 'requests' } }));
    expect([...book.refusals(TIMES)]).toMatchObject([{ limit: 0, used: 0 }]);
  });

  it.each([
    ["This key's limit of 3 requests per minute is reached.", { of: 'key', by: 'requests' }],
    ["This request may take 9 tokens; this project's limit of 5 per minute leaves 1.", { of: 'project', by: 'tokens' }],
    ['Too many requests of this organization are in flight.', { of: 'organization', by: 'concurrency' }],
    ['The workers of this model are full.', undefined],
  ])('is read from its sentence: %s', (text, expected) => expect(refusalIn(text)).toEqual(expected));
});

describe('the plan', () => {
  it('has the keys that were asked for, each with a limit, in both organizations, the same for the same seed', () => {
    const { keys, scopes } = planOf(50, 60, randomFrom(3));
    expect(keys).toHaveLength(50);
    expect(planOf(50, 60, randomFrom(3)).keys).toEqual(keys);
    for (const { rpm, tpm, concurrency } of scopes) expect([rpm, tpm, concurrency]).not.toEqual([null, null, null]);
    expect(new Set(scopes.map(({ kind }) => kind))).toEqual(new Set(['key', 'project', 'organization']));
    for (const { demand } of keys) expect(demand).toBeGreaterThan(0);
  });
});

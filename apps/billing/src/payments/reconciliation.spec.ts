import { describe, expect, it } from '@jest/globals';
import type { ProviderPayment } from './provider.js';
import { differencesOf, rangeSchema, type Booked } from './reconciliation.js';

const there = (change: Partial<ProviderPayment> = {}): ProviderPayment => ({
  paymentId: 'p',
  intent: 'i',
  status: 'paid',
  received: 5_000_000_000_000n,
  refunded: 0n,
  dispute: 'none',
  disputed: 0n,
  method: null,
  ...change,
});
const here = (change: Partial<Booked> = {}): Booked => ({
  paymentId: 'p',
  organizationId: 'org-1',
  intent: 'i',
  credited: 5_000_000_000_000n,
  returned: 0n,
  ...change,
});
const compare = (said: ProviderPayment[], ...booked: Booked[]) =>
  differencesOf(said, new Map(booked.map((one) => [one.paymentId, one])), new Set(booked.map((one) => one.paymentId)));

describe('the reconciliation', () => {
  it('says nothing where both say the same, or nobody paid', () => {
    expect(compare([there()], here())).toEqual([]);
    expect(compare([there({ status: 'open', received: 0n })], here({ intent: null, credited: 0n }))).toEqual([]);
    expect(compare([there({ refunded: 7n, disputed: 2n })], here({ returned: 9n }))).toEqual([]);
    expect(compare([], here({ credited: 0n, intent: null }))).toEqual([]);
  });

  it.each([
    [
      'money that is in no book',
      [there({ paymentId: 'q' })],
      { what: 'unknown_here', here: null, there: '5.00', paymentId: 'q' },
    ],
    [
      'a second payment under one id',
      [there(), there({ intent: 'j' })],
      { what: 'unknown_here', intent: 'j', there: '5.00' },
    ],
    [
      'a payment without credit',
      [there({ intent: 'i' })],
      { what: 'paid', here: '0.00', there: '5.00' },
      here({ credited: 0n, intent: null }),
    ],
    ['another amount', [there({ received: 6_000_000_000_000n })], { what: 'paid', here: '5.00', there: '6.00' }],
    [
      'what went back unheard',
      [there({ refunded: 1_000_000_000_000n })],
      { what: 'returned', here: '0.00', there: '1.00' },
    ],
    ['credit without a payment', [], { what: 'unknown_there', here: '5.00', there: null, organizationId: 'org-1' }],
  ] as [string, ProviderPayment[], object, Booked?][])('names %s', (_, said, difference, booked = here()) => {
    const known = difference['paymentId' as never] === 'q' ? here({ credited: 0n, intent: null }) : booked;
    expect(compare(said, known)).toEqual([expect.objectContaining(difference)]);
  });

  it('takes 31 days at most', () => {
    const parse = (from: string, to: string) => rangeSchema.safeParse({ from, to }).success;
    expect(parse('2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z')).toBe(true);
    expect(parse('2026-01-01T00:00:00Z', '2026-02-01T00:00:01Z')).toBe(false);
    expect(parse('2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')).toBe(false);
  });
});

import { describe, expect, it } from '@jest/globals';
import type { Credential } from '@sluice/contracts/auth';
import type { Keys } from '../keys/keys.service.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import type { PreviousUses } from '../keys/previous-uses.service.js';
import type { RateLimiter } from '../limits/limiter.js';
import type { Organizations } from '../organizations/organizations.service.js';
import type { Prices } from '../prices/prices.service.js';
import { Admission } from './admission.service.js';

const GOOD = '2099-01-01T00:00:00.000Z';
const ALL = Array.from({ length: 24 }, (_, hour) => hour);
/** None that begins or ends while this runs. */
const NOT_NOW = (new Date().getUTCHours() + 12) % 24;

/** One gateway's admission: an organization without credit, whose key is of this subscription. */
function admissionOf(subscription: Credential['subscription']) {
  const asked: string[] = [];
  const credential = aKnownKey({ kind: 'subscription', subscription });
  const keys = { presented: () => ({ digest: 'd', kind: 'subscription', keyPrefix: 'p' }), admit: () => credential };
  const workload = { project: 'default', name: 'chat', model: 'm', createdAt: GOOD };
  const nothing = async () => (asked.push('funds'), 0n);
  const organizations = {
    workloads: { peek: () => [workload] },
    funds: { peek: () => undefined, get: nothing, again: nothing },
  };
  const prices = { current: () => ({ version: 'v', model: 'm' }) };
  const admission = new Admission(
    keys as unknown as Keys,
    organizations as unknown as Organizations,
    prices as unknown as Prices,
    {} as RateLimiter,
    { note: () => {} } as unknown as PreviousUses,
  );
  const identify = () => admission.identify({}, { scope: 'inference:write', address: '127.0.0.1' });
  return { asked, identify, place: async () => admission.place(await identify(), 'm') };
}

describe('a key of a subscription', () => {
  it('is admitted in its hours, without credit and without a question about it', async () => {
    const { asked, place } = admissionOf({ id: 's1', hours: ALL, goodUntil: GOOD });
    expect((await place()).workload.name).toBe('chat');
    expect(asked).toEqual([]);
    await expect(admissionOf(null).place()).rejects.toMatchObject({ code: 'insufficient_quota' });
  });

  it('is known but not admitted outside of them', async () => {
    const { identify, place } = admissionOf({ id: 's1', hours: [NOT_NOW], goodUntil: GOOD });
    await identify();
    await expect(place()).rejects.toMatchObject({ code: 'outside_reserved_block' });
  });

  it('is over when what is paid for is, whatever auth has heard', async () => {
    const { identify } = admissionOf({ id: 's1', hours: ALL, goodUntil: '2026-01-01T00:00:00.000Z' });
    await expect(identify()).rejects.toMatchObject({ code: 'api_key_expired' });
  });
});

import { beforeEach, describe, expect, it } from '@jest/globals';
import { EVIDENCE_MS, type Credential } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { manualClock, type ManualClock } from '@sluice/testing';
import { FLIGHT_MS, KeyProjection } from './key-projection.js';

let clock: ManualClock;
let p: KeyProjection;
beforeEach(() => {
  clock = manualClock();
  p = new KeyProjection(10, clock);
});

const learn = (over: Partial<Credential> = {}, digest = 'd1') =>
  p.finishLookup(p.beginLookup(), digest, aCredential(over));
const cut = (id: string, version: number) => p.invalidate({ id, version, inflight: 'cut' });
/** The lease is held from now on by a barrier that came back at once. */
const lease = () => {
  p.followingFrom();
  p.barrierReturned(clock.monotonic());
};
const inMs = (milliseconds: number) => new Date(clock.now() + milliseconds).toISOString();

describe('evidence', () => {
  it('of a look-up is good from when it was sent, not from when it arrived', () => {
    const flight = p.beginLookup();
    clock.advance(1_500);
    expect(p.finishLookup(flight, 'd1', aCredential())).toBe(true);
    clock.advance(EVIDENCE_MS - 1_501);
    expect(p.admit('d1')?.keyId).toBe('k1');
    clock.advance(1);
    expect(p.admit('d1')).toBeUndefined();
  });

  it('of the feed lease is good for what was looked up after the consumer existed', () => {
    p.followingFrom();
    learn();
    clock.advance(1_500);
    p.barrierReturned(clock.monotonic());
    clock.advance(EVIDENCE_MS - 1);
    expect(p.admit('d1')?.keyId).toBe('k1');
    clock.advance(1);
    expect(p.admit('d1')).toBeUndefined();
  });

  it('of the feed lease is no good for a look-up sent before the consumer existed', () => {
    const flight = p.beginLookup();
    clock.advance(10);
    lease();
    expect(p.finishLookup(flight, 'd1', aCredential())).toBe(false);
  });

  it('is not made by a barrier sent before the consumer existed', () => {
    const sentAt = clock.monotonic();
    clock.advance(10);
    p.followingFrom();
    p.barrierReturned(sentAt);
    expect(p.leaseLeft).toBe(0);
  });

  it('counts a lease from the send time of its barrier, however late it came back', () => {
    p.followingFrom();
    learn();
    const sentAt = clock.monotonic();
    clock.advance(EVIDENCE_MS - 1);
    p.barrierReturned(sentAt);
    clock.advance(1);
    expect(p.admit('d1')).toBeUndefined();
  });
});

describe('a new generation', () => {
  it('begins when a lapsed lease is noticed, however late, by the first request after a pause', () => {
    lease();
    learn();
    clock.advance(5_000);
    expect(p.admit('d1')).toBeUndefined();
    p.barrierReturned(clock.monotonic());
    expect(p.admit('d1')).toBeUndefined();
  });

  it('begins in the very call that would renew a lapsed lease', () => {
    lease();
    learn();
    clock.advance(EVIDENCE_MS + 100);
    p.barrierReturned(clock.monotonic() - 50);
    expect(p.admit('d1')).toBeUndefined();
  });

  it('lets no answer count to a question of before a lapse that the answer itself has to notice', () => {
    lease();
    clock.advance(EVIDENCE_MS - 10);
    const flight = p.beginLookup();
    clock.advance(20);
    expect(p.finishLookup(flight, 'd1', aCredential())).toBe(false);
  });

  it.each([
    ['set forward', 150],
    ['set back', -150],
  ])('begins when the clock was %s, noticed by a request before any timer', (_how, jump) => {
    lease();
    learn();
    const flight = p.beginLookup();
    clock.jump(jump);
    expect(p.admit('d1')).toBeUndefined();
    expect(p.finishLookup(flight, 'd2', aCredential())).toBe(false);
  });

  it('does not begin for what a clock that is slewed does', () => {
    lease();
    learn();
    for (let i = 0; i < 10; i++) {
      clock.jump(50);
      expect(p.admit('d1')?.keyId).toBe('k1');
    }
  });

  it('begins when the consumer is lost or made anew; tombstones stay', () => {
    lease();
    cut('k2', 5);
    learn();
    p.stoppedFollowing();
    expect(p.admit('d1')).toBeUndefined();
    learn();
    p.followingFrom();
    expect(p.admit('d1')).toBeUndefined();
    expect(learn({ keyId: 'k2', version: 4 }, 'd2')).toBe(false);
  });

  it('begins when auth gave this process up, and the feed that it follows counts again at once', () => {
    lease();
    learn();
    p.startAnew();
    expect(p.admit('d1')).toBeUndefined();
    learn();
    p.barrierReturned(clock.monotonic());
    clock.advance(EVIDENCE_MS - 1);
    p.barrierReturned(clock.monotonic());
    clock.advance(EVIDENCE_MS - 1);
    expect(p.admit('d1')?.keyId).toBe('k1');
  });
});

describe('an invalidation', () => {
  it('kills a key and an older look-up that lands after it', () => {
    learn();
    const late = p.beginLookup();
    expect(cut('k1', 2)).toBe(true);
    expect(p.admit('d1')).toBeUndefined();
    expect(p.finishLookup(late, 'd1', aCredential())).toBe(false);
    expect(p.admit('d1')).toBeUndefined();
  });

  it('is kept for a key nobody heard of; a repeated or older one changes nothing', () => {
    expect(cut('k1', 5)).toBe(true);
    expect(cut('k1', 5)).toBe(false);
    expect(cut('k1', 4)).toBe(false);
    expect(learn({ version: 4 })).toBe(false);
  });

  it('lets a newer version in: a reactivation is not refused', () => {
    cut('k1', 2);
    expect(learn({ version: 2 })).toBe(true);
    expect(p.admit('d1')?.version).toBe(2);
  });

  it('evicts every secret of a key, the one in grace too, and leaves a newer version of the same key', () => {
    learn({ version: 1 }, 'a');
    learn({ version: 3 }, 'b');
    learn({ version: 2 }, 'c');
    cut('k1', 3);
    expect(['a', 'b', 'c'].map((digest) => p.admit(digest)?.version)).toEqual([undefined, 3, undefined]);
    cut('k1', 4);
    expect(p.size).toBe(0);
  });

  it('of an organization voids each of its credentials, and no other', () => {
    learn({ keyId: 'k1', organizationId: 'o1' }, 'a');
    learn({ keyId: 'k2', organizationId: 'o1', name: 'x', rpm: 5 }, 'b');
    learn({ keyId: 's1', organizationId: 'o1', kind: 'session', role: 'owner' }, 'c');
    learn({ keyId: 'k4', organizationId: 'o2' }, 'd');
    const late = p.beginLookup();
    cut('o1', 7);
    expect(['a', 'b', 'c', 'd'].map((digest) => p.admit(digest)?.keyId)).toEqual([
      undefined,
      undefined,
      undefined,
      'k4',
    ]);
    expect(p.finishLookup(late, 'a', aCredential({ organizationVersion: 6 }))).toBe(false);
    expect(learn({ organizationVersion: 7 }, 'a')).toBe(true);
    expect(p.admit('a')?.keyId).toBe('k1');
  });

  it('outlives every look-up that could bring an older version: one that took that long does not count', () => {
    const flight = p.beginLookup();
    cut('k1', 2);
    for (let i = 0; i < 100; i++) {
      clock.advance(FLIGHT_MS / 5);
      p.check();
      expect(p.finishLookup(flight, 'd1', aCredential())).toBe(false);
    }
  });
});

describe('time', () => {
  it('ends a key at its expiry by the clock at once, and for good when the clock is set back', () => {
    learn({ expiresAt: inMs(1_000) });
    clock.advance(999);
    expect(p.admit('d1')?.keyId).toBe('k1');
    clock.advance(1);
    expect(() => p.admit('d1')).toThrow(expect.objectContaining({ code: 'api_key_expired' }));
    const expiresAt = inMs(0);
    clock.jump(-3_600_000);
    learn({ expiresAt });
    expect(() => p.admit('d1')).toThrow(expect.objectContaining({ code: 'api_key_expired' }));
    learn({ expiresAt: inMs(7_200_000), version: 2 });
    expect(p.admit('d1')?.version).toBe(2);
  });

  it('ends the grace of a previous secret, not the key', () => {
    learn({ previousUntil: inMs(1_000) }, 'old');
    learn({}, 'new');
    clock.advance(1_000);
    expect(() => p.admit('old')).toThrow(expect.objectContaining({ code: 'invalid_api_key' }));
    expect(p.admit('new')?.keyId).toBe('k1');
  });
});

describe('a refusal', () => {
  const refuse = () => p.refused(p.beginLookup(), 'd1', 'invalid_api_key');

  it('is remembered for a second', () => {
    refuse();
    clock.advance(999);
    expect(p.refusal('d1')).toBe('invalid_api_key');
    clock.advance(1);
    expect(p.refusal('d1')).toBeUndefined();
  });

  it('is forgotten with every invalidation and generation, as it may be a reactivation', () => {
    refuse();
    cut('k1', 3);
    expect(p.refusal('d1')).toBeUndefined();
    refuse();
    p.stoppedFollowing();
    expect(p.refusal('d1')).toBeUndefined();
  });

  it('is not remembered when something was invalidated while it was on its way', () => {
    const flight = p.beginLookup();
    cut('k9', 3);
    p.refused(flight, 'd1', 'invalid_api_key');
    expect(p.refusal('d1')).toBeUndefined();
  });
});

describe('memory', () => {
  it('never holds more entries than its capacity, nor sets of rights without entries', () => {
    p = new KeyProjection(2, clock);
    for (const id of ['x', 'y', 'z']) learn({ keyId: id, organizationId: `o-${id}` }, id);
    expect([p.size, p.profileCount]).toEqual([2, 2]);
    expect(p.admit('x')).toBeUndefined();
    expect(p.admit('z')?.keyId).toBe('z');
    cut('y', 2);
    cut('o-z', 2);
    expect(p.admit('z')).toBeUndefined();
    expect([p.size, p.profileCount]).toEqual([0, 0]);
  });

  it('holds what keys of an organization have in common once', () => {
    const shared = () => ({
      organizationLimits: { rpm: 600, tpm: null, concurrency: 5 },
      projectLimits: { rpm: null, tpm: 9, concurrency: null },
    });
    for (let i = 0; i < 10; i++) learn({ ...shared(), keyId: `k${i}`, name: `n${i}`, version: i + 1 }, `d${i}`);
    expect([p.size, p.profileCount]).toEqual([10, 1]);
    // Not only as equal ones: with a million keys that would be a million of them.
    expect(p.admit('d1')?.organizationLimits).toBe(p.admit('d9')?.organizationLimits);
    expect(p.admit('d1')?.projectLimits).toEqual(shared().projectLimits);
    expect(p.admit('d1')!.scopes).toBe(p.admit('d9')!.scopes);
  });

  it('gives back what it was given', () => {
    const credential = aCredential({ expiresAt: inMs(5_000), previousUntil: inMs(1_000), ipAllow: ['10.0.0.0/8'] });
    p.finishLookup(p.beginLookup(), 'd1', credential);
    const known = p.admit('d1')!;
    const fields = Object.keys(credential) as (keyof Credential)[];
    expect(Object.fromEntries(fields.map((field) => [field, known[field]]))).toEqual(credential);
  });
});

import { describe, expect, it } from '@jest/globals';
import { EVIDENCE_MS, type Credential } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { KeyProjection } from './key-projection.js';

const learned = (projection: KeyProjection, now: number, over: Partial<Credential> = {}, digest = 'd1') =>
  projection.finishLookup(projection.beginLookup(now), digest, aCredential(over));

describe('KeyProjection', () => {
  it('believes a look-up for the evidence time from when it was sent, not from when it arrived', () => {
    const p = new KeyProjection(10);
    const flight = p.beginLookup(1000);
    expect(p.finishLookup(flight, 'd1', aCredential())).toBe(true);
    expect(p.admit('d1', 1000 + EVIDENCE_MS - 1)?.keyId).toBe('k1');
    expect(p.admit('d1', 1000 + EVIDENCE_MS)).toBeUndefined();
  });

  it('keeps an entry under the feed lease only if its look-up began after the consumer existed', () => {
    const p = new KeyProjection(10);
    p.followingFrom(500);
    learned(p, 600);
    p.barrierReturned(2000, 2001);
    expect(p.admit('d1', 3500)?.keyId).toBe('k1');
    expect(p.admit('d1', 4000)).toBeUndefined();
  });

  it('does not let a barrier sent before the consumer existed make a lease', () => {
    const p = new KeyProjection(10);
    p.followingFrom(500);
    learned(p, 600);
    p.barrierReturned(499, 700);
    expect(p.admit('d1', 600 + EVIDENCE_MS)).toBeUndefined();
  });

  it('starts a new generation when a lapsed lease is noticed late, even if a barrier came back since', () => {
    const p = new KeyProjection(10);
    p.followingFrom(0);
    p.barrierReturned(0, 1);
    learned(p, 100);
    const before = p.generation;
    expect(p.admit('d1', 5000)).toBeUndefined();
    expect(p.generation).toBeGreaterThan(before);
    p.barrierReturned(5000, 5001);
    expect(p.admit('d1', 5100)).toBeUndefined();
  });

  it('notices the lapse in the very call that would renew the lease', () => {
    const p = new KeyProjection(10);
    p.followingFrom(0);
    p.barrierReturned(0, 1);
    learned(p, 100);
    p.barrierReturned(2100, 2200);
    expect(p.admit('d1', 2201)).toBeUndefined();
  });

  it('kills a revoked key and refuses an older look-up that lands after the tombstone', () => {
    const p = new KeyProjection(10);
    learned(p, 0);
    const late = p.beginLookup(1);
    expect(p.invalidate({ id: 'k1', version: 2, inflight: 'cut' }, 2)).toBe(true);
    expect(p.admit('d1', 3)).toBeUndefined();
    expect(p.finishLookup(late, 'd1', aCredential())).toBe(false);
    expect(p.admit('d1', 3)).toBeUndefined();
  });

  it('takes a tombstone for a key it never heard of, and a repeated or older one changes nothing', () => {
    const p = new KeyProjection(10);
    expect(p.invalidate({ id: 'k1', version: 5, inflight: 'cut' }, 0)).toBe(true);
    expect(p.invalidate({ id: 'k1', version: 5, inflight: 'cut' }, 1)).toBe(false);
    expect(p.invalidate({ id: 'k1', version: 4, inflight: 'cut' }, 1)).toBe(false);
    expect(learned(p, 2, { version: 4 })).toBe(false);
  });

  it('accepts a newer version after a tombstone: reactivation is not refused', () => {
    const p = new KeyProjection(10);
    p.invalidate({ id: 'k1', version: 2, inflight: 'cut' }, 0);
    expect(learned(p, 1, { version: 2 })).toBe(true);
    expect(p.admit('d1', 2)?.version).toBe(2);
  });

  it('drops everything, flights too, when the consumer is gone or the clocks disagree', () => {
    const p = new KeyProjection(10);
    p.checkClocks(0, 1_000_000);
    learned(p, 1);
    const flight = p.beginLookup(2);
    p.checkClocks(1000, 1_001_500);
    expect(p.admit('d1', 1001)).toBeUndefined();
    expect(p.finishLookup(flight, 'd1', aCredential())).toBe(false);
    learned(p, 1002);
    p.stoppedFollowing();
    expect(p.admit('d1', 1003)).toBeUndefined();
  });

  it('evicts every digest of a key at once and never holds more entries than its capacity', () => {
    const p = new KeyProjection(2);
    learned(p, 0, {}, 'a');
    learned(p, 0, {}, 'b');
    p.invalidate({ id: 'k1', version: 2, inflight: 'cut' }, 1);
    expect(p.admit('a', 2) ?? p.admit('b', 2)).toBeUndefined();
    for (const id of ['x', 'y', 'z']) learned(p, 3, { keyId: id }, id);
    expect(p.size).toBe(2);
    expect(p.admit('x', 4)).toBeUndefined();
    expect(p.admit('z', 4)?.keyId).toBe('z');
  });
});

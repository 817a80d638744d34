import { describe, expect, it } from '@jest/globals';
import { localShare } from './limiter.js';
import { LocalWindows } from './local-windows.js';

describe('the share of a limit', () => {
  it.each([
    [60, 1, 60],
    [60, 4, 15],
    [60, 7, 8],
    [3, 5, 1],
    [0, 5, 0],
    [60, 0, 60],
  ])('%d among %d gateways is %d', (limit, gateways, share) => {
    expect(localShare(limit, gateways)).toBe(share);
  });

  it('all shares together are within the limit as long as there is one request for each gateway', () => {
    for (let limit = 1; limit < 200; limit++) {
      for (let gateways = 1; gateways <= limit; gateways++) {
        expect(localShare(limit, gateways) * gateways).toBeLessThanOrEqual(limit);
      }
    }
  });
});

/** As `LocalLimits` does with one limit. */
function admit(local: LocalWindows, keyId: string, limit: number, now: number) {
  const allowed = local.fits(keyId, limit, now, 1);
  if (allowed) local.take(keyId, now, 1);
  return { allowed, ...local.left(keyId, limit, now, 1) };
}

describe('local windows', () => {
  it('admit up to the limit, then refuse with the time to wait, by key', () => {
    const local = new LocalWindows(60_000);
    expect(admit(local, 'a', 2, 0)).toEqual({ allowed: true, limit: 2, remaining: 1, resetMs: 0 });
    expect(admit(local, 'a', 2, 500)).toMatchObject({ allowed: true, remaining: 0 });
    const refused = admit(local, 'a', 2, 10_000);
    expect(refused).toEqual({ allowed: false, limit: 2, remaining: 0, resetMs: 51_000 });
    expect(admit(local, 'b', 2, 10_000).allowed).toBe(true);
    expect(admit(local, 'a', 2, 10_000 + refused.resetMs).allowed).toBe(true);
  });

  it('what was admitted elsewhere counts here too', () => {
    const local = new LocalWindows(60_000);
    local.take('a', 0, 1);
    local.take('a', 0, 1);
    expect(admit(local, 'a', 2, 1).allowed).toBe(false);
  });

  it('a limit of none admits nothing and says to wait for a window', () => {
    expect(admit(new LocalWindows(60_000), 'a', 0, 0)).toMatchObject({ allowed: false, resetMs: 60_000 });
  });

  it('memory is bounded: beyond it keys that were not used for long start anew, not the busy one', () => {
    const local = new LocalWindows(60_000, 100);
    admit(local, 'busy', 1, 0);
    for (let i = 0; i < 1_000; i++) {
      admit(local, `k${i}`, 1, i);
      expect(admit(local, 'busy', 1, i).allowed).toBe(false);
      expect(local.size).toBeLessThanOrEqual(100);
    }
    expect(admit(local, 'k960', 1, 1_000).allowed).toBe(false);
    expect(admit(local, 'k0', 1, 1_000).allowed).toBe(true);
  });

  it('tokens count by their weight: what does not fit is refused, something smaller is not', () => {
    const local = new LocalWindows(60_000);
    local.take('a', 0, 800);
    expect(local.fits('a', 1_000, 1, 201)).toBe(false);
    expect(local.fits('a', 1_000, 1, 200)).toBe(true);
    expect(local.left('a', 1_000, 1, 201)).toMatchObject({ remaining: 200, resetMs: 60_000 });
  });

  it('what was taken is set right where it was taken, while it counts', () => {
    const local = new LocalWindows(60_000);
    local.take('a', 0, 800);
    local.correct('a', 0, -700);
    expect(local.left('a', 1_000, 1, 1).remaining).toBe(900);
    local.correct('a', 0, -700);
    expect(local.left('a', 1_000, 1, 1).remaining).toBe(1_000);
    local.correct('a', 0, 300);
    local.correct('unknown', 0, 300);
    expect(local.left('a', 1_000, 1, 1).remaining).toBe(700);
    expect(local.left('a', 1_000, 70_000, 1).remaining).toBe(1_000);
    local.correct('a', 0, 300);
    expect(local.left('a', 1_000, 70_000, 1).remaining).toBe(1_000);
  });
});

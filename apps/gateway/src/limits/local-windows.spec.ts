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

describe('local windows', () => {
  it('admit up to the limit, then refuse with the time to wait, by key', () => {
    const local = new LocalWindows(60_000);
    expect(local.admit('a', 2, '1', 0)).toEqual({ allowed: true, limit: 2, remaining: 1, resetMs: 0 });
    expect(local.admit('a', 2, '2', 500)).toMatchObject({ allowed: true, remaining: 0 });
    const refused = local.admit('a', 2, '3', 10_000);
    expect(refused).toEqual({ allowed: false, limit: 2, remaining: 0, resetMs: 51_000 });
    expect(local.admit('b', 2, '3', 10_000).allowed).toBe(true);
    expect(local.admit('a', 2, '4', 10_000 + refused.resetMs).allowed).toBe(true);
  });

  it('a request that is asked for again is admitted again and counted once', () => {
    const local = new LocalWindows(60_000);
    for (let i = 0; i < 5; i++) expect(local.admit('a', 1, 'same', i).allowed).toBe(true);
    expect(local.admit('a', 1, 'other', 10).allowed).toBe(false);
    // Another key's request of the same name is another request.
    expect(local.admit('b', 1, 'same', 10)).toMatchObject({ allowed: true, remaining: 0 });
  });

  it('a name from a window long gone is a new request', () => {
    const local = new LocalWindows(1_000);
    local.admit('a', 1, 'same', 0);
    expect(local.admit('a', 1, 'same', 5_000)).toMatchObject({ allowed: true, remaining: 0 });
  });

  it('what was admitted elsewhere counts here too', () => {
    const local = new LocalWindows(60_000);
    local.note('a', 0);
    local.note('a', 0);
    expect(local.admit('a', 2, '1', 1).allowed).toBe(false);
  });

  it('a limit of none admits nothing and says to wait for a window', () => {
    expect(new LocalWindows(60_000).admit('a', 0, '1', 0)).toMatchObject({ allowed: false, resetMs: 60_000 });
  });

  it('memory is bounded: beyond it the key used longest ago starts anew, not the busy one', () => {
    const local = new LocalWindows(60_000, 100, 100);
    local.admit('busy', 1, '1', 0);
    for (let i = 0; i < 1_000; i++) {
      local.admit(`k${i}`, 1, '1', i);
      expect(local.admit('busy', 1, `r${i}`, i).allowed).toBe(false);
    }
    expect(local.size).toBe(100);
    expect(local.admit('k999', 1, '2', 1_000).allowed).toBe(false);
    expect(local.admit('k0', 1, '2', 1_000).allowed).toBe(true);
  });
});

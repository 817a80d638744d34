import { describe, expect, it } from '@jest/globals';
import { Accounting } from './accounting.js';

describe('accounting', () => {
  it('a worker has in flight what was booked and not given back', () => {
    const accounting = new Accounting();
    const first = accounting.book('a');
    accounting.book('a');
    accounting.book('b');
    first();
    expect([accounting.inFlight('a'), accounting.inFlight('b'), accounting.inFlight('c')]).toEqual([1, 1, 0]);
  });

  it('a booking given back twice counts once', () => {
    const accounting = new Accounting();
    const release = accounting.book('a');
    accounting.book('a');
    release();
    release();
    expect(accounting.inFlight('a')).toBe(1);
  });

  it('idle workers take no memory', () => {
    const accounting = new Accounting();
    accounting.book('a')();
    expect(accounting.busy).toBe(0);
  });
});

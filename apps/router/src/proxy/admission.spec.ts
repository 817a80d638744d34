import { describe, expect, it } from '@jest/globals';
import { Admission } from './admission.js';

describe('admission', () => {
  it('refuses beyond the number of requests and lets in again when one left', () => {
    const admission = new Admission(2, 100);
    const leave = admission.enter(1)!;
    admission.enter(1);
    expect(admission.enter(1)).toBeUndefined();
    leave();
    expect(admission.enter(1)).toBeDefined();
  });

  it('refuses beyond the bytes it may keep, small requests still fit', () => {
    const admission = new Admission(10, 100);
    admission.enter(90);
    expect(admission.enter(11)).toBeUndefined();
    expect(admission.enter(10)).toBeDefined();
  });

  it('leaving twice frees one place', () => {
    const admission = new Admission(2, 100);
    const leave = admission.enter(50)!;
    admission.enter(50);
    leave();
    leave();
    expect(admission.inside).toBe(1);
    expect(admission.enter(51)).toBeUndefined();
  });
});

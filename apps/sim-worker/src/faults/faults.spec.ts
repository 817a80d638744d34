import { describe, expect, it } from '@jest/globals';
import { FaultSwitch, faultsSchema, NO_FAULTS } from './faults.js';

describe('the fault switch', () => {
  it('meets so many requests as it is told, then clears itself', () => {
    const faults = new FaultSwitch({ errorStatus: 503, requests: 2 });
    expect([1, 2, 3].map(() => faults.take('m').errorStatus)).toEqual([503, 503, undefined]);
    expect(faults.get()).toEqual(NO_FAULTS);
  });

  it('spares and does not count other models', () => {
    const faults = new FaultSwitch({ omitUsage: true, model: 'm', requests: 1 });
    expect(faults.take('other')).toEqual({});
    expect(faults.take('m')).toEqual({ omitUsage: true });
    expect(faults.take('m')).toEqual({});
  });

  it('knows no switch by a mistyped name', () => {
    expect(faultsSchema.safeParse({ dieAfterToken: 3 }).success).toBe(false);
    expect(faultsSchema.safeParse({ errorStatus: 200 }).success).toBe(false);
  });
});

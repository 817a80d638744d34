import { beforeEach, describe, expect, it } from '@jest/globals';
import type { RefusalCounts } from '@sluice/contracts/refusals';
import { manualClock } from '@sluice/testing';
import { register } from 'prom-client';
import { RefusalCountsTeller } from './refusal-counts.service.js';

const REFUSED = { organizationId: 'o1', project: '', keyId: 'k1', model: '', code: 'insufficient_quota' };
let told: { subject: string; message: RefusalCounts; id: string }[];
let away: boolean;
let teller: RefusalCountsTeller;
beforeEach(() => {
  register.clear();
  told = [];
  away = false;
  const publish = async (subject: string, message: RefusalCounts, id: string) => {
    if (away) throw new Error('not connected');
    told.push({ subject, message, id });
  };
  teller = new RefusalCountsTeller('boot-1', publish, manualClock());
});

describe('metering', () => {
  it('is told of what was refused, under the boot, each message with an id of its own', async () => {
    teller.add(REFUSED);
    await teller.flush();
    await teller.flush();
    teller.add(REFUSED);
    await teller.flush();
    expect(told.map(({ message }) => message.counts.map(({ count }) => count))).toEqual([[1], [2]]);
    expect(told[0]).toMatchObject({ subject: 'refused.v1.boot-1', message: { boot: 'boot-1' } });
    expect(new Set(told.map(({ id }) => id)).size).toBe(2);
  });

  it('is told later what the broker did not take, with what came meanwhile, and at the end what is left', async () => {
    away = true;
    teller.add(REFUSED);
    await teller.flush();
    teller.add(REFUSED);
    away = false;
    await teller.stop();
    expect(told.map(({ message }) => message.counts)).toEqual([[expect.objectContaining({ ...REFUSED, count: 2 })]]);
  });

  it('is told of many in several messages', async () => {
    for (let i = 0; i < 1_001; i++) teller.add({ ...REFUSED, keyId: `k${i}` });
    await teller.flush();
    expect(told.map(({ message }) => message.counts.length)).toEqual([500, 500, 1]);
  });
});

import { beforeEach, expect, it } from '@jest/globals';
import { previousUsesSchema } from '@sluice/contracts/auth';
import type { ServiceClient } from '@sluice/service-kit';
import { manualClock } from '@sluice/testing';
import { register } from 'prom-client';
import { PreviousUses } from './previous-uses.service.js';

const UNTIL = '2026-01-02T00:00:00.000Z';
const clock = manualClock();
let told: unknown[];
let uses: PreviousUses;
beforeEach(() => {
  register.clear();
  told = [];
  const auth = { tell: async ({ body }: { body: unknown }) => void told.push(body) } as unknown as ServiceClient;
  uses = new PreviousUses(auth, clock);
});

it('an owner hears of a secret in grace that is still used, once a minute per key, and not of current ones', async () => {
  uses.note({ keyId: 'k1', previousUntil: null });
  for (let i = 0; i < 3; i++) uses.note({ keyId: 'k1', previousUntil: UNTIL });
  uses.note({ keyId: 'k2', previousUntil: UNTIL });
  await uses.report();
  expect(told).toEqual([
    {
      uses: ['k1', 'k2'].map((keyId) => ({ keyId, previousUntil: UNTIL, usedAt: '2026-01-01T00:00:00.000Z' })),
    },
  ]);
  previousUsesSchema.parse(told[0]);
  await uses.report();
  expect(told).toHaveLength(1);
  clock.advance(60_000);
  uses.note({ keyId: 'k1', previousUntil: UNTIL });
  await uses.report();
  expect(told).toHaveLength(2);
});

it('many keys are told in reports that auth takes', async () => {
  for (let i = 0; i < 2_500; i++) uses.note({ keyId: `k${i}`, previousUntil: UNTIL });
  await uses.report();
  for (const report of told) previousUsesSchema.parse(report);
  expect(told).toHaveLength(3);
});

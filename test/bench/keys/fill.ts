// The process whose memory `npm run bench -- keys` measures: the gateway's built modules, and its projection filled.
import { lookupResponseSchema, type Credential } from '@sluice/contracts/auth';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { digestOf, organizationOf } from './made-up.ts';
import type { FillMessage } from './memory.ts';

interface Projection {
  readonly size: number;
  readonly profileCount: number;
  beginLookup(): unknown;
  finishLookup(flight: unknown, digest: string, credential: Credential): boolean;
}

const DIST = new URL('../../../apps/gateway/dist/', import.meta.url);
const KEPT_WHEN_EMPTY = 1_000;
const WARM_UP = 200_000;
const keys = Number(process.argv[2]);
const { KeyProjection } = (await import(new URL('keys/key-projection.js', DIST).href)) as {
  KeyProjection: new (capacity: number, clock: typeof systemClock) => Projection;
};
// What else a gateway has loaded: it counts as empty.
await import(new URL('gateway.module.js', DIST).href);

const say = (message: FillMessage) => process.send!(message);
const resident = (): number => {
  // The kind that gives memory back: what is free within the heap is not what the keys take.
  for (let i = 0; i < 3; i++) globalThis.gc!({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  return process.memoryUsage().rss;
};
/** As auth answers: a few sets of rights in each organization, everything else different from key to key. */
const answer = (i: number): string =>
  JSON.stringify({
    credential: {
      keyId: systemId(),
      version: 1 + (i % 5),
      kind: 'credit',
      organizationId: organizationOf(i),
      organizationVersion: 1,
      project: 'default',
      name: `key ${i} of production`,
      scopes: ['inference:read', 'inference:write'],
      access: ['default/*'],
      models: i % 3 === 0 ? ['demo/large-70b'] : null,
      ipAllow: i % 7 === 0 ? ['10.0.0.0/8', '192.0.2.0/24'] : null,
      expiresAt: i % 4 === 0 ? '2030-01-01T00:00:00.000Z' : null,
      previousUntil: null,
      rpm: i % 2 === 0 ? 60 : 600,
      tpm: null,
      concurrency: null,
      organizationLimits: i % 2 === 0 ? { rpm: 6_000, tpm: null, concurrency: 100 } : null,
      projectLimits: null,
      priority: null,
      maxBudget: null,
      budgetReset: null,
      subscription: null,
      memberId: null,
      role: null,
    },
  });
const learn = (projection: Projection, i: number): void => {
  const { credential } = lookupResponseSchema.parse(JSON.parse(answer(i)));
  if (!projection.finishLookup(projection.beginLookup(), digestOf(i), credential))
    throw new Error(`key ${i} is not in`);
};

// A gateway at work: its code is compiled, and it keeps few keys.
const forgetful = new KeyProjection(KEPT_WHEN_EMPTY, systemClock);
const fresh = resident();
for (let i = 0; i < Math.min(keys, WARM_UP); i++) learn(forgetful, i);
const empty = resident();
const projection = new KeyProjection(keys, systemClock);
for (let i = 0; i < keys; i++) {
  learn(projection, i);
  if (i % 10_000 === 0) say({ done: i });
}
say({ done: keys });
const full = resident();
if (projection.size !== keys) throw new Error(`${projection.size} of ${keys} keys are cached`);
say({ fresh, empty, full, profiles: projection.profileCount });

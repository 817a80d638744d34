import { describe, expect, it } from '@jest/globals';
import { CASES } from './cases.ts';
import { awaitedTrips, type Counters } from './counters.ts';
import { figuresOf } from './figures.ts';
import { memoryFigures } from './memory.ts';
import { profileFigures } from './profile.ts';
import type { Sample } from './rounds.ts';

const sample = (own: Partial<Sample>): Sample => ({
  system: 'sluice',
  requests: 1_000,
  errors: 0,
  seconds: 1,
  p50Ms: 1,
  p90Ms: 2,
  p99Ms: 3,
  maxMs: 4,
  cpuMs: 5,
  cpu: { gateway: 100, metering: 10 },
  settledCpu: { gateway: 150, metering: 40 },
  settleSeconds: 0.5,
  upstreamCpuMs: 10,
  othersCores: 0,
  ...own,
});

describe('the figures of a bench', () => {
  it('a request costs what all rounds cost together, not the mean of their costs', () => {
    const [figures] = figuresOf([
      sample({}),
      sample({ requests: 3_000, cpu: { gateway: 140, metering: 0 }, settledCpu: { gateway: 140, metering: 40 } }),
    ]);
    expect(figures).toMatchObject({ requests: 4_000, rps: 2_000, byProcess: { gateway: 60, metering: 20 }, cpuUs: 80 });
  });

  it('what works behind the answer is charged with all it did for it, what answers with the time of the load', () => {
    expect(figuresOf([sample({})])[0]!.byProcess).toEqual({ gateway: 100, metering: 40 });
  });

  it('one noisy round of three does not move a latency', () => {
    const [figures] = figuresOf([sample({ p99Ms: 3 }), sample({ p99Ms: 300 }), sample({ p99Ms: 4 })]);
    expect(figures!.p99Ms).toBe(4);
  });

  it('of the scripts that Redis ran, those that nobody waits for are no awaited trips', () => {
    // Ten asked for, nine ends told, three renewed.
    const redis = { evalsha: 22, time: 13, zcard: 20, zadd: 23, zrem: 9 };
    expect(awaitedTrips({ redis } as unknown as Counters)).toBe(10);
  });

  it('memory that grows is not flat, memory that was high from the start is', () => {
    const minute = Array.from({ length: 60 }, (_, i) => i);
    expect(memoryFigures(minute.map((i) => 200 + i))).toMatchObject({ flat: false, slopeMBPerMinute: 60 });
    expect(memoryFigures(minute.map((i) => 900 + (i % 2)))).toMatchObject({ flat: true });
  });

  it('a system call counts for the package that asked for it, idling for nobody', () => {
    const frame = (functionName: string, url = '') => ({ functionName, url, lineNumber: 0 });
    const nodes = [
      { id: 1, callFrame: frame('(root)'), children: [2, 5] },
      { id: 2, callFrame: frame('resume', 'file:///x/node_modules/undici/lib/a.js'), children: [3] },
      { id: 3, callFrame: frame('write', 'node:net'), children: [4] },
      { id: 4, callFrame: frame('writev') },
      { id: 5, callFrame: frame('(idle)') },
    ];
    const { busyUs, owners } = profileFigures({ nodes, samples: [4, 3, 5], timeDeltas: [30, 10, 500] }, 10);
    expect({ busyUs, owners }).toEqual({ busyUs: 4, owners: [{ name: 'undici', us: 4 }] });
  });

  it('a case can be named, and each name is one case', () => {
    expect(new Set(CASES.map(({ name }) => name)).size).toBe(18);
  });
});

import { describe, expect, it } from '@jest/globals';
import { Batch, type Sequence, type TimeModel } from './batch.js';

const MODEL: TimeModel = {
  slots: 2,
  prefillTokensPerSecond: 1_000,
  prefillOverheadMs: 10,
  decodeMs: 20,
  decodeMsPerSequence: 5,
};

class Job implements Sequence {
  readonly name: string;
  readonly tokens: number;
  readonly uncached: number;
  admittedAt: number | undefined;
  constructor(name: string, uncached: number, tokens: number) {
    this.name = name;
    this.uncached = uncached;
    this.tokens = tokens;
  }
  admitted(at: number): number {
    this.admittedAt = at;
    return this.uncached;
  }
}

/** All that happens until nothing is left: `time: who got a token, who is done in capitals`. */
function history(batch: Batch<Job>, until = Infinity): string[] {
  const lines: string[] = [];
  for (let at = batch.nextAt(); at !== undefined && at <= until; at = batch.nextAt()) {
    const step = batch.due(at)!;
    const names = step.got.map((job) => (step.done.includes(job) ? job.name.toUpperCase() : job.name));
    lines.push(`${step.at}: ${names.join(' ')}`);
  }
  return lines;
}

describe('the time model', () => {
  it('gives the first token after the prefill of what is not cached, the others a step apart', () => {
    const batch = new Batch<Job>(MODEL);
    batch.submit(new Job('a', 100, 3), 1_000);
    expect(history(batch)).toEqual(['1110: a', '1135: a', '1160: A']);
    expect(batch.runningCount).toBe(0);
  });

  it('prefills one at a time, in order, and decodes slower the more decode', () => {
    const batch = new Batch<Job>(MODEL);
    batch.submit(new Job('a', 10, 4), 0);
    batch.submit(new Job('b', 10, 2), 0);
    // b joins in the middle of a's step and takes part from the next.
    expect(history(batch)).toEqual(['20: a', '40: b', '45: a', '75: a B', '100: A']);
  });

  it('lets them wait for a slot in the order they came', () => {
    const batch = new Batch<Job>(MODEL);
    const jobs = ['a', 'b', 'c', 'd'].map((name) => new Job(name, 0, 1));
    for (const job of jobs) batch.submit(job, 0);
    expect([batch.runningCount, batch.waitingCount]).toEqual([2, 2]);
    expect(history(batch)).toEqual(['10: A', '20: B', '30: C', '40: D']);
    expect(jobs.map((job) => job.admittedAt)).toEqual([0, 0, 10, 20]);
  });

  it('ends an embedding with its prefill, without a token', () => {
    const batch = new Batch<Job>(MODEL);
    const job = new Job('e', 40, 0);
    batch.submit(job, 0);
    expect(batch.due(50)).toEqual({ at: 50, got: [], done: [job] });
  });

  it('tells nothing before its time', () => {
    const batch = new Batch<Job>(MODEL);
    batch.submit(new Job('a', 100, 1), 0);
    expect(batch.due(109.9)).toBeUndefined();
    expect(batch.due(110)).toBeDefined();
  });

  it.each(['waiting', 'prefilling', 'decoding', 'joining'])(
    'frees the place of one cancelled while %s at once',
    (where) => {
      const batch = new Batch<Job>({ ...MODEL, slots: 3 });
      const [a, b, c, next] = ['a', 'b', 'c', 'n'].map((name) => new Job(name, 0, 100)) as [Job, Job, Job, Job];
      batch.submit(a, 0);
      batch.submit(b, 0);
      batch.submit(c, 0);
      const waits = new Job('w', 0, 1);
      batch.submit(waits, 0);
      history(batch, 25);
      // 10: a decodes; 20: b joins until a's step ends at 35; c is prefilled until 30.
      const victim = { waiting: waits, prefilling: c, decoding: a, joining: b }[where]!;
      expect(batch.cancel(victim, 25)).toBe(true);
      expect(waits.admittedAt).toBe(where === 'waiting' ? undefined : 25);
      expect(batch.cancel(victim, 25)).toBe(false);
      batch.submit(next, 25);
      expect(batch.runningCount).toBe(3);
      expect(batch.waitingCount).toBe(1);
      expect(history(batch, 5_000).join(' ')).not.toMatch(new RegExp(`\\b${victim.name}\\b`, 'i'));
    },
  );

  it('goes on with the next prefill when the one under way is cancelled', () => {
    const batch = new Batch<Job>(MODEL);
    const first = new Job('a', 990, 1);
    batch.submit(first, 0);
    batch.submit(new Job('b', 0, 1), 0);
    batch.cancel(first, 100);
    expect(history(batch)).toEqual(['110: B']);
  });
});

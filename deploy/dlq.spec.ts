import { beforeEach, describe, expect, it } from '@jest/globals';
import type { StoredDeadLetter } from '@sluice/messaging';
import { dlq } from './dlq.ts';

const letter = (sequence: number, durable = 'metering-usage-1'): StoredDeadLetter => ({
  sequence,
  stream: 'USAGE',
  durable,
  diedAt: new Date('2026-11-20T10:00:00Z'),
  reason: 'Poison/invalid_usage_batch',
  original: { subject: 'usage.v1.0', sequence: 7, messageId: 'b:0-1', deliveries: 1 },
  headers: { 'Sluice-Dead-Reason': ['Poison/invalid_usage_batch'] },
  data: Buffer.from('{"a":"customer"}'),
});

let waiting: StoredDeadLetter[];
let decided: string[];
let printed: string[];
const run = async (...args: string[]): Promise<number> =>
  dlq(
    args,
    {
      async *list() {
        // What dies again comes behind, as in the stream.
        for (let i = 0; i < waiting.length; i++) yield waiting[i]!;
      },
      find: async (sequence) => waiting.find((one) => one.sequence === sequence),
      newest: async () => waiting.at(-1)?.sequence ?? 0,
      redrive: async (one) => {
        decided.push(`redrive ${one.sequence}`);
        waiting = waiting.concat(letter(100 + one.sequence, one.durable));
      },
      drop: async (one, reason) => void decided.push(`drop ${one.sequence} ${reason}`),
    },
    (line) => printed.push(line),
  );

beforeEach(() => {
  waiting = [letter(1), letter(2, 'billing-usage'), letter(3)];
  decided = [];
  printed = [];
});

describe('npm run dlq', () => {
  it('lists what waits, of one consumer or all, for people or as JSON lines', async () => {
    expect(await run('list')).toBe(0);
    expect(printed.at(-1)).toBe('metering-usage-1: 2, billing-usage: 1');
    printed = [];
    expect(await run('list', '--json', '--consumer', 'billing-usage')).toBe(0);
    expect(printed.map((line) => JSON.parse(line) as unknown)).toEqual([
      expect.objectContaining({
        sequence: 2,
        consumer: 'billing-usage',
        reason: 'Poison/invalid_usage_batch',
        bytes: 16,
      }),
    ]);
  });

  it('shows the content of a customer’s message only when asked for it', async () => {
    expect(await run('show', '1')).toBe(0);
    expect(printed.join()).toContain('invalid_usage_batch');
    expect(printed.join()).not.toContain('customer');
    expect(await run('show', '1', '--content')).toBe(0);
    expect(printed.at(-1)).toContain('customer');
  });

  it('sends again what is named, and says what is not there', async () => {
    expect(await run('redrive', '1', '9', '3')).toBe(1);
    expect(decided).toEqual(['redrive 1', 'redrive 3']);
    expect(printed).toContain('9 is no dead letter (any more)');
  });

  it('sends each of a consumer and its partitions again once, and ends also where each of them dies again', async () => {
    expect(await run('redrive', '--consumer', 'metering-usage')).toBe(0);
    expect(decided).toEqual(['redrive 1', 'redrive 3']);
  });

  it('gives up with a reason only', async () => {
    expect(await run('drop', '1')).toBe(2);
    expect(await run('drop', '1', '--reason', 'line\nbreak')).toBe(2);
    expect(decided).toEqual([]);
    expect(await run('drop', '1', '2', '--reason', 'test data')).toBe(0);
    expect(decided).toEqual(['drop 1 test data', 'drop 2 test data']);
  });

  it.each([
    [],
    ['redrive'],
    ['redrive', '1', '--all'],
    ['show'],
    ['show', 'x'],
    ['list', '--consumer', '>'],
    ['purge'],
  ])('does nothing when it is told %j', async (...args) => {
    expect(await run(...args)).toBe(2);
    expect([decided, printed.join().includes('usage: npm run dlq')]).toEqual([[], true]);
  });
});

import { describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defaultSpeed, readTrace } from './trace.ts';

const HEAD = 'TIMESTAMP,ContextTokens,GeneratedTokens\n';

describe('the trace', () => {
  it('is read with its times to the millisecond, across midnight', () => {
    const csv = `${HEAD}2023-11-16 23:59:59.9000000,374,44\r\n2023-11-17 00:00:01.1505000,396,109\n`;
    expect(readTrace(csv, 2)).toEqual([
      { index: 0, at: 0, contextTokens: 374, generatedTokens: 44 },
      { index: 1, at: 1250.5, contextTokens: 396, generatedTokens: 109 },
    ]);
  });

  it('is read as far as wanted, and no further', () => {
    const csv = `${HEAD}2023-11-16 00:00:00,1,1\nnot a row at all\n`;
    expect(readTrace(csv, 1)).toHaveLength(1);
  });

  it.each([
    ['too few rows', '2023-11-16 00:00:00,1,1', 2],
    ['no time', 'yesterday,1,1', 1],
    ['no tokens', '2023-11-16 00:00:00,1,0', 1],
    ['half a token', '2023-11-16 00:00:00,1.5,1', 1],
    ['other columns', '2023-11-16 00:00:00', 1],
  ])('is refused with %s', (_, rows, count) => {
    expect(() => readTrace(`${HEAD}${rows}\n`, count)).toThrow();
  });

  it('by default takes 20 s for 500 requests', () => {
    const csv = readFileSync(join(import.meta.dirname, '../traces/azure-conversation-500.csv'), 'utf8');
    const rows = readTrace(csv, 500);
    expect(rows).toHaveLength(500);
    expect(rows.at(-1)!.at / defaultSpeed(rows)).toBeCloseTo(20_000, 3);
    expect(defaultSpeed(rows.slice(0, 1))).toBeGreaterThan(0);
  });
});

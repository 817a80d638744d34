import { describe, expect, it } from '@jest/globals';
import { parse } from 'csv-parse/sync';
import { csvLine } from './csv.js';

describe('a line of CSV', () => {
  it('is read back as what it was, whatever stands in its cells', () => {
    const texts = ['', 'a', 'a,b', 'say "hi"', 'two\r\nlines', ' spaces ', 'ä€😀', ';'];
    expect(parse(csvLine(texts))).toEqual([texts]);
    expect(parse(csvLine([1, 0.5, null, undefined, { a: [1] }]))).toEqual([['1', '0.5', '', '', '{"a":[1]}']]);
  });

  it.each(['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1'])('keeps a spreadsheet from running %j', (text) => {
    expect(parse(csvLine([text]))).toEqual([[`'${text}`]]);
  });

  it('leaves numbers that are less than nothing as they are', () => {
    expect(csvLine([-1])).toBe('-1\r\n');
  });
});

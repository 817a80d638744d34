import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { ERRORS } from '@sluice/contracts/errors';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

/** The table as the catalogue says it: paste it between the marks when this fails. */
const table = [
  '| code | status | meaning | remedy |',
  '|---|---|---|---|',
  ...Object.entries(ERRORS).map(
    ([code, { status, message, remedy }]) => `| \`${code}\` | ${status} | ${message} | ${remedy} |`,
  ),
].join('\n');

describe('the error catalogue', () => {
  it('is what the README says', () => {
    expect(
      readme
        .slice(readme.indexOf('<!-- errors -->') + '<!-- errors -->'.length, readme.indexOf('<!-- /errors -->'))
        .trim(),
    ).toBe(table);
  });
});

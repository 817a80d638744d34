import { beforeEach, describe, expect, it } from '@jest/globals';
import { quarantine } from './quarantine.ts';

let waiting: string[];
let asked: string[];
let printed: string[];
const run = async (...args: string[]): Promise<number> =>
  quarantine(
    args,
    async (method, path, body) => {
      asked.push(`${method} ${path}${body === undefined ? '' : ` ${JSON.stringify(body)}`}`);
      const [, hash, what] = /billing\/(\w+)\/?(\w*)$/.exec(path) ?? [];
      if (hash === undefined) {
        // Two a page.
        const after = path.split('cursor=')[1] ?? '';
        const rest = waiting.filter((one) => one > after);
        const data = rest.slice(0, 2).map((one) => ({ hash: one, id: `r-${one}`, reason: 'odd', setAsideAt: 'now' }));
        return { data, nextCursor: rest.length > 2 ? rest[1]! : null };
      }
      if (!waiting.includes(hash)) return undefined;
      if (what === 'redrive' && hash === 'b') return { data: { result: 'stays', reason: 'odd' } };
      if (what === '') return { data: { hash, content: { of: 'a customer' } } };
      waiting = waiting.filter((one) => one !== hash);
      return { data: { result: what === 'drop' ? 'dropped' : 'booked' } };
    },
    (line) => printed.push(line),
  );

beforeEach(() => {
  waiting = ['a', 'b', 'c'];
  asked = [];
  printed = [];
});

describe('npm run quarantine', () => {
  it('lists all pages, for people or as JSON lines, and shows one', async () => {
    expect(await run('list', 'billing')).toBe(0);
    expect(printed.at(-1)).toBe('3 set aside');
    printed = [];
    await run('list', 'billing', '--json');
    expect(printed.map((line) => (JSON.parse(line) as { hash: string }).hash)).toEqual(['a', 'b', 'c']);
    expect([await run('show', 'billing', 'a'), printed.at(-1)]).toEqual([0, expect.stringContaining('a customer')]);
    expect(await run('show', 'billing', 'x')).toBe(1);
  });

  it('tries all to be booked, and says which stay', async () => {
    expect(await run('redrive', 'billing', '--all')).toBe(1);
    expect(printed).toEqual(['a  booked', 'b  stays: odd', 'c  booked']);
    expect(await run('redrive', 'billing', 'a')).toBe(1);
    expect(printed.at(-1)).toBe('a  not there (any more)');
  });

  it('gives up with a reason only', async () => {
    expect([await run('drop', 'billing', 'a'), asked]).toEqual([2, []]);
    expect(await run('drop', 'billing', 'a', '--reason', 'test data')).toBe(0);
    expect(asked).toEqual(['POST /api/operator/quarantine/billing/a/drop {"reason":"test data"}']);
  });

  it.each([
    ['list'],
    ['list', 'auth'],
    ['redrive', 'billing'],
    ['redrive', 'billing', 'a', '--all'],
    ['show', 'billing', '../prices'],
    ['purge', 'billing'],
  ])('does nothing when it is told %s %s', async (...args) => {
    expect(await run(...args)).toBe(2);
    expect([asked, printed.join().includes('usage: npm run quarantine')]).toEqual([[], true]);
  });
});

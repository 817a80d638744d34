import { describe, expect, it } from '@jest/globals';
import { withMutants } from './mutants.ts';
import { UsageError, type Run, type Verdict } from './program.ts';
import { randomFrom } from './random.ts';

const MUTANTS = [{ name: 'one' }, { name: 'two' }, { name: 'three' }];
const verdict = (name: string, ok = true): Verdict => ({
  figures: { [name]: 1 },
  goals: { [name]: { goal: '', value: 0, ok } },
});

/** What was run, with the seed of each part. */
async function played(values: Run['values'], stopped = false) {
  const ran: Record<string, unknown> = {};
  const stopping = new AbortController();
  const run: Run = { values, random: randomFrom(7), say: () => {}, stopping: stopping.signal };
  const result = await withMutants(run, {
    mutants: MUTANTS,
    unmutated: async ({ seed }) => {
      ran['own'] = seed;
      if (stopped) stopping.abort();
      return verdict('own');
    },
    hunt: async (mutants, { seed }) => {
      ran['hunt'] = seed;
      ran['names'] = mutants.map(({ name }) => name);
      return verdict('hunted', false);
    },
  });
  return { ran, goals: Object.keys(result.goals), figures: Object.keys(result.figures) };
}

describe('a program with mutants', () => {
  const own = randomFrom(7).fork('own').seed;
  const hunt = randomFrom(7).fork('mutants').seed;

  it.each([
    ['none', {}, { own }, ['own']],
    ['all', { mutants: 'all' }, { own, hunt, names: ['one', 'two', 'three'] }, ['own', 'hunted']],
    ['some', { mutants: 'three,one' }, { own, hunt, names: ['three', 'one'] }, ['own', 'hunted']],
    ['only some', { mutants: 'two', 'only-mutants': true }, { hunt, names: ['two'] }, ['hunted']],
  ])('runs what was asked for, and tells of all of it: %s', async (_what, values, ran, goals) => {
    expect(await played(values)).toEqual({ ran, goals, figures: goals });
  });

  it('hunts nothing any more when it was stopped', async () => {
    expect((await played({ mutants: 'all' }, true)).ran).toEqual({ own });
  });

  it.each([
    ['a mutant that there is not', { mutants: 'one,four' }],
    ['only mutants, of which none is named', { 'only-mutants': true }],
  ])('starts nothing when it is asked for %s', async (_what, values) => {
    let started = false;
    const start = async () => {
      started = true;
      return verdict('started');
    };
    const run: Run = { values, random: randomFrom(7), say: () => {}, stopping: new AbortController().signal };
    const asked = withMutants(run, { mutants: MUTANTS, unmutated: start, hunt: start });
    await expect(asked).rejects.toBeInstanceOf(UsageError);
    expect(started).toBe(false);
  });
});

import { describe, expect, it } from '@jest/globals';
import { MUTANTS } from '../prove/limits/mutants.ts';
import { patchesFor, timesOf } from '../prove/limits/times.ts';
import { requireFit } from '../prove/revocation/build.ts';
import { proved } from './proved.ts';

const PROVE_MS = 900_000;
/** A minute of this many seconds, in a changed copy of the build. */
const WINDOW_SECONDS = 15;
const COMMAND = ['limits', '--window', String(WINDOW_SECONDS), '--keys', '30', '--seconds', '32', '--lost', '3'];

/** What the command says in its last line. */
interface Verdict {
  readonly calls: { readonly admitted: number };
  readonly problems: readonly string[];
  readonly goals: Readonly<Record<string, { readonly value: unknown; readonly ok: boolean }>>;
}

describe('a rule that is switched off by a mutant, and what makes a minute short,', () => {
  const patches = [
    ...MUTANTS.map((mutant) => [mutant.name, mutant.patches] as const),
    ['a short minute', patchesFor(timesOf(WINDOW_SECONDS))] as const,
  ];
  it.each(patches)('is in the code: %s', (_name, its) => {
    for (const patch of its) expect(() => requireFit(patch)).not.toThrow();
  });
});

describe('limits of keys, projects and an organization', () => {
  it(
    'hold at three gateways under load, through the death of one and the loss of Redis, and refuse nobody whom they need not',
    async () => {
      const { output, verdict } = await proved<Verdict>(...COMMAND);
      // How quickly, how much, and whether Redis answered in time is the machine's; those goals are the command's own.
      const said = Object.fromEntries(
        ['asDescribed', 'withinLimits', 'inUse', 'freed', 'afterwards'].map((goal) => [
          goal,
          verdict.goals?.[goal]?.ok,
        ]),
      );
      if (Object.values(said).some((ok) => ok !== true)) console.error(output);
      expect([verdict.problems, said]).toEqual([
        [],
        { asDescribed: true, withinLimits: true, inUse: true, freed: true, afterwards: true },
      ]);
      expect(verdict.calls!.admitted).toBeGreaterThan(0);
      console.log(output.trim().split('\n').at(-1));
    },
    PROVE_MS,
  );
});

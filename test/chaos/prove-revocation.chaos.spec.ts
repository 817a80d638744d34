import { describe, expect, it } from '@jest/globals';
import { requireFit } from '../prove/revocation/build.ts';
import { MUTANTS } from '../prove/revocation/mutants.ts';
import { proved } from './proved.ts';

const PROVE_MS = 600_000;
/** The quick ones; `npm run prove -- revocation` plays them all. */
const SCENARIOS = [
  'stopped-gateway',
  'held-lookup',
  'held-lookup-by-feed',
  'auth-without-broker',
  'stopped-answer',
  'cut-stream',
  'deaf-stream',
  'held-management-answer',
  'held-dispatch',
];

/** What the command says in its last line. */
interface Verdict {
  readonly revokes: number;
  readonly inForce: number;
  readonly violations: Readonly<Record<string, number>>;
  readonly problems: readonly string[];
}

describe('a rule that is switched off by a mutant', () => {
  it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('is in the code: %s', (_name, { patches }) => {
    for (const patch of patches) expect(() => requireFit(patch)).not.toThrow();
  });
});

describe('a revoke that returned', () => {
  it(
    'is in force at three gateways under load, stops, kills and partitions: nothing is accepted after it',
    async () => {
      const { output, verdict } = await proved<Verdict>(
        'revocation',
        '--revokes',
        '40',
        '--scenarios',
        SCENARIOS.join(','),
      );
      // How long it takes is the command's own goal: a machine that runs every test at once says nothing of it.
      const said = { inForce: verdict.inForce, violations: verdict.violations, problems: verdict.problems };
      if (verdict.problems?.length !== 0 || verdict.inForce !== 40) console.error(output);
      expect(said).toEqual({
        inForce: 40,
        violations: { accepted: 0, answered: 0, streamed: 0, dispatched: 0, uncut: 0 },
        problems: [],
      });
      console.log(output.trim().split('\n').at(-1));
    },
    PROVE_MS,
  );
});

import { describe, expect, it } from '@jest/globals';
import { requireFit } from '../prove/revocation/build.ts';
import { MUTANTS } from '../prove/usage/mutants.ts';
import { proved } from './proved.ts';

const PROVE_MS = 900_000;

/** What the command says in its last line. */
interface Verdict {
  readonly requests: number;
  readonly goals: Readonly<Record<string, { readonly value: unknown; readonly ok: boolean }>>;
}

describe('a rule that is switched off by a mutant', () => {
  it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('is in the code: %s', (_name, { patches }) => {
    for (const patch of patches) expect(() => requireFit(patch)).not.toThrow();
  });
});

describe('usage', () => {
  it(
    'is neither lost nor counted twice when gateways and the router are killed, NATS is away and clients leave',
    async () => {
      const { output, verdict } = await proved<Verdict>('usage', '--requests', '400', '--nats-away', '3');
      const missed = Object.entries(verdict.goals ?? { nothing: { value: 'was said', ok: false } }).filter(
        ([, { ok }]) => !ok,
      );
      if (missed.length > 0) console.error(output);
      expect(missed).toEqual([]);
      expect(verdict.requests).toBeGreaterThanOrEqual(400);
      console.log(output.trim().split('\n').at(-1));
    },
    PROVE_MS,
  );
});

import { describe, expect, it } from '@jest/globals';
import { proved } from './proved.ts';

const PROVE_MS = 240_000;

interface Verdict {
  readonly http: number;
  readonly goals: Readonly<Record<string, { readonly ok: boolean }>>;
}

describe('hostile clients and workers', () => {
  it(
    'get no error of our own, crash nothing, and leave books that agree',
    async () => {
      // Always the same cases, so that who changed nothing of it is not who finds something.
      const { output, verdict } = await proved<Verdict>(
        'fuzz',
        '--cases',
        '3000',
        '--http',
        '1000',
        '--seed',
        '20261121',
      );
      // So short a run says nothing of memory.
      const missed = Object.entries(verdict.goals ?? {}).filter(([name, { ok }]) => !ok && name !== 'memory');
      if (verdict.goals === undefined || missed.length > 0) console.error(output);
      expect(verdict.http).toBe(1000);
      expect(missed).toEqual([]);
    },
    PROVE_MS,
  );
});

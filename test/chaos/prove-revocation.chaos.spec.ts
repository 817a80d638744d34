import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { requireFit } from '../prove/revocation/build.ts';
import { MUTANTS } from '../prove/revocation/mutants.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
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

function prove(): Promise<{ output: string; verdict: Partial<Verdict> }> {
  const command = ['test/prove.ts', 'revocation', '--revokes', '40', '--scenarios', SCENARIOS.join(',')];
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...command], {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => {
      const last = output.trim().split('\n').at(-1) ?? '';
      resolve({ output, verdict: (last.startsWith('{') ? JSON.parse(last) : {}) as Partial<Verdict> });
    });
  });
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
      const { output, verdict } = await prove();
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

// npm run check: everything about the code that needs no running servers. Every step runs, also after one that failed.
import { capture, Failed, main } from './child.mjs';
import { prepare, root } from './prepare.mjs';
import { step } from './steps.mjs';

const STEP_MS = 10 * 60_000;
const STEPS = {
  build: ['nx', 'run-many', '-t', 'build'],
  types: ['tsc', '-b', 'tsconfig.json'],
  lint: ['oxlint', '--type-aware', '--deny-warnings'],
  format: ['oxfmt', '--check', '.'],
  boundaries: ['node', 'deploy/local/check-boundaries.mjs'],
  workspaces: ['node', 'deploy/local/check-workspaces.mjs'],
  'generated files': ['node', '--disable-warning=ExperimentalWarning', 'deploy/generate.ts', '--check'],
};

await main(async () => {
  const { env } = await prepare({ build: false });
  const failed = [];
  for (const [name, [command, ...args]] of Object.entries(STEPS)) {
    try {
      await step(name, () => capture(command, args, { env, cwd: root, milliseconds: STEP_MS }));
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      console.error(error.message);
      failed.push(name);
    }
  }
  console.log(failed.length === 0 ? 'check: all clean' : `check: failed in ${failed.join(', ')}`);
  return failed.length === 0 ? 0 : 1;
});

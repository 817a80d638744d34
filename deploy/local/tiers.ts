// Run by test.mjs under Node 24: every tier of tests with one set of backing services, then the sum.
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startBacking, toEnvironment, type Backing } from '@sluice/testing';

const TIERS = ['unit', 'integration', 'journeys', 'chaos', 'tidy'] as const;
type Tier = (typeof TIERS)[number];
const NEEDS_SERVERS: readonly Tier[] = ['integration', 'journeys', 'chaos'];

interface Outcome {
  readonly tier: Tier;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  readonly note: string;
}

interface JestSummary {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly numTotalTests: number;
  readonly numRuntimeErrorTestSuites: number;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const state = join(root, '.sluice', 'test');
// After its last result jest should end; what a test left open keeps it.
const LINGER_MS = 60_000;

const separator = process.argv.indexOf('--', 2);
const jestArguments = separator < 0 ? [] : process.argv.slice(separator + 1);
const { positionals } = parseArgs({
  args: process.argv.slice(2, separator < 0 ? undefined : separator),
  allowPositionals: true,
});
const unknown = positionals.filter((name) => !TIERS.includes(name as Tier));
if (unknown.length > 0) {
  console.error(`No tier is called ${unknown.join(', ')}; there are ${TIERS.join(', ')}.`);
  process.exit(1);
}
const tiers = TIERS.filter((tier) => positionals.length === 0 || positionals.includes(tier));

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stopping.abort(signal));

let backing: Backing | undefined;
const outcomes: Outcome[] = [];
try {
  for (const tier of tiers) {
    if (NEEDS_SERVERS.includes(tier)) backing ??= await servers();
    if (stopping.signal.aborted) break;
    outcomes.push(await run(tier, backing));
  }
} finally {
  const logs = join(state, 'backing', 'logs');
  if (outcomes.some(({ failed }) => failed > 0) && existsSync(logs))
    cpSync(logs, join(state, 'server-logs'), { recursive: true });
  await backing?.stop();
}

const sum = (field: 'passed' | 'failed'): number => outcomes.reduce((total, outcome) => total + outcome[field], 0);
console.log(`\n${table(outcomes)}\n`);
if (backing) console.log(`backing services: ${backing.reason}`);
if (stopping.signal.aborted) console.log(`stopped by ${String(stopping.signal.reason)}: not every tier ran to its end`);
const failed = sum('failed') + (stopping.signal.aborted ? 1 : 0);
console.log(`${sum('passed')} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);

async function servers(): Promise<Backing> {
  const started = performance.now();
  const backing = await startBacking({
    dir: join(state, 'backing'),
    need: ['postgres', 'nats', 'redis'],
    onProgress: (line) => console.log(`  ${line}`),
  });
  console.log(`✓ backing services ${((performance.now() - started) / 1_000).toFixed(1)} s: ${backing.reason}`);
  return backing;
}

async function run(tier: Tier, backing: Backing | undefined): Promise<Outcome> {
  console.log(`\n── ${tier}`);
  mkdirSync(state, { recursive: true });
  const results = join(state, `${tier}.json`);
  rmSync(results, { force: true });
  const started = performance.now();
  const ended = await jest(tier, results, backing);
  const seconds = (performance.now() - started) / 1_000;
  if (!existsSync(results))
    return { tier, passed: 0, failed: 1, skipped: 0, seconds, note: `jest ended without results (${ended})` };
  const summary = JSON.parse(readFileSync(results, 'utf8')) as JestSummary;
  const failed = summary.numFailedTests + summary.numRuntimeErrorTestSuites;
  const notes = [
    ...(summary.numTotalTests === 0 ? ['no tests'] : []),
    ...(summary.numRuntimeErrorTestSuites > 0 ? [`${summary.numRuntimeErrorTestSuites} suites did not run`] : []),
    ...(ended === 'lingered' ? ['a test left something open: jest had to be killed'] : []),
  ];
  const otherwise = failed === 0 && ended !== 'exit code 0';
  if (otherwise && ended !== 'lingered') notes.push(`jest ended with ${ended}`);
  const skipped = summary.numPendingTests + summary.numTodoTests;
  return {
    tier,
    passed: summary.numPassedTests,
    failed: failed + (otherwise ? 1 : 0),
    skipped,
    seconds,
    note: notes.join('; '),
  };
}

/** @returns how jest ended: "exit code 0", "SIGTERM", "lingered" */
function jest(tier: Tier, results: string, backing: Backing | undefined): Promise<string> {
  const child = spawn(
    process.execPath,
    [
      '--experimental-vm-modules',
      '--disable-warning=ExperimentalWarning',
      '--import',
      fileURLToPath(new URL('with-parent.mjs', import.meta.url)),
      join(root, 'node_modules', 'jest', 'bin', 'jest.js'),
      '--selectProjects',
      tier,
      '--passWithNoTests',
      '--json',
      `--outputFile=${results}`,
      ...jestArguments,
    ],
    {
      cwd: root,
      // Suites with servers of their own take the same kind.
      env: {
        ...process.env,
        ...(backing ? toEnvironment(backing) : {}),
        ...(backing && backing.kind !== 'env' ? { BACKING: backing.kind } : {}),
      },
      // With --json jest speaks to people on stderr.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    },
  );
  let lingered = false;
  let done: number | undefined;
  const watch = setInterval(() => {
    if (done === undefined && existsSync(results)) done = performance.now();
    if (done === undefined || performance.now() - done < LINGER_MS) return;
    lingered = true;
    child.kill('SIGKILL');
  }, 1_000);
  const stop = (): boolean => child.kill('SIGTERM');
  stopping.signal.addEventListener('abort', stop, { once: true });
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => {
      clearInterval(watch);
      stopping.signal.removeEventListener('abort', stop);
      resolve(lingered ? 'lingered' : (signal ?? `exit code ${code}`));
    });
  });
}

function table(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map(({ tier, passed, failed, skipped, seconds, note }) => [
    tier,
    passed,
    failed,
    skipped,
    `${seconds.toFixed(1)} s`,
    note,
  ]);
  return [['tier', 'passed', 'failed', 'skipped', 'time', ''], ...rows]
    .map(([tier, ...cells]) =>
      `${String(tier).padEnd(12)}${cells.map((cell, i) => (i < 4 ? String(cell).padStart(9) : `  ${cell}`)).join('')}`.trimEnd(),
    )
    .join('\n');
}

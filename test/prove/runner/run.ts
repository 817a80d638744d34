import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { UsageError, wholeNumber, type Program, type Verdict } from './program.ts';
import { randomFrom } from './random.ts';

const MAX_SEED = 2 ** 32 - 1;

/**
 * Runs the program NAME of a folder. The last line is its verdict as JSON; the exit code is 0 when every goal is reached,
 * 1 when not, 2 when it was asked for something that is not there.
 */
export async function runNamed(command: string, folder: URL, args: readonly string[]): Promise<void> {
  const [name, ...rest] = args;
  const names = namesIn(folder);
  if (name === undefined || !names.includes(name)) {
    console.error(name === undefined ? `npm run ${command} -- NAME [options]` : `There is no ${command} ${name}.`);
    console.error(`There ${names.length === 1 ? 'is' : 'are'}:`);
    for (const known of names) console.error(`  ${known.padEnd(16)} ${(await load(folder, known)).about}`);
    process.exitCode = 2;
    return;
  }
  const program = await load(folder, name);
  try {
    const { values } = parse(program, rest);
    if (values['help'] === true) {
      console.log(`npm run ${command} -- ${name} [options]\n\n${program.about}\n\n${usage(program)}`);
      return;
    }
    process.exitCode = (await execute(name, program, values)) ? 0 : 1;
  } catch (error) {
    console.error(error instanceof UsageError ? `${error.message}\n\n${usage(program)}` : error);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
  // What a test left open must not keep a command whose verdict is out. Not left to the end of the loop either: Node 24
  // can spin for ever in its clean-up behind a socket that was reset.
  process.exit();
}

async function execute(
  name: string,
  program: Program,
  values: Record<string, string | boolean | undefined>,
): Promise<boolean> {
  const { seed: given } = values;
  const seed = given === undefined ? randomBytes(4).readUInt32LE(0) : wholeNumber('seed', given, 0, MAX_SEED);
  console.log(`seed ${seed} (the same choices again: --seed ${seed})`);
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stopping.abort(signal));
  const { figures, goals }: Verdict = await program.run({
    values,
    random: randomFrom(seed),
    say: (line) => console.log(line),
    stopping: stopping.signal,
  });
  const missed = Object.entries(goals).filter(([, { ok }]) => !ok);
  for (const [goal, { goal: wanted, value }] of missed)
    console.log(`✗ ${goal}: ${JSON.stringify(value)}, the goal is ${wanted}`);
  const ok = missed.length === 0 && !stopping.signal.aborted;
  console.log(JSON.stringify({ name, seed, ...figures, goals, ok }));
  return ok;
}

const namesIn = (folder: URL): string[] =>
  (existsSync(folder) ? readdirSync(folder) : [])
    .filter((file) => file.endsWith('.ts') && !file.includes('.spec.'))
    .map((file) => file.slice(0, -'.ts'.length))
    .sort();

const load = async (folder: URL, name: string): Promise<Program> =>
  ((await import(new URL(`${name}.ts`, folder).href)) as { program: Program }).program;

function parse({ options, bare = {} }: Program, given: readonly string[]) {
  const args = given.map((arg, i) => {
    const value = arg.startsWith('--') ? bare[arg.slice(2)] : undefined;
    const alone = given[i + 1] === undefined || given[i + 1]!.startsWith('-');
    return value !== undefined && alone ? `${arg}=${value}` : arg;
  });
  try {
    const all = { ...options, seed: { type: 'string' as const }, help: { type: 'boolean' as const, short: 'h' } };
    return parseArgs({ args, options: all, strict: true }) as { values: Record<string, string | boolean | undefined> };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

const usage = ({ usage: own = '' }: Program): string =>
  `${own.trimEnd()}\n  --seed N       the choices of an earlier run`.replace(/^\n/, '');

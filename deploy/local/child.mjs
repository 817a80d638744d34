// Child processes of the commands: one whose output matters only when it fails, and one that is the command.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Something that people can mend; the message says it all, and a stack trace would only hide it. */
export class Failed extends Error {
  name = 'Failed';
}

const withParent = fileURLToPath(new URL('with-parent.mjs', import.meta.url));

/** Runs a command to its end and returns its output, which is part of the error when it fails. */
export function capture(command, args, { env, cwd, milliseconds }) {
  const child = spawn(command, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: milliseconds });
  const chunks = [];
  child.stdout.on('data', (chunk) => chunks.push(chunk));
  child.stderr.on('data', (chunk) => chunks.push(chunk));
  const abandon = (signal) => {
    child.kill(signal);
    process.exit(128 + constants.signals[signal]);
  };
  process.once('SIGINT', abandon);
  process.once('SIGTERM', abandon);
  return new Promise((resolve, reject) => {
    const output = () => Buffer.concat(chunks).toString();
    child.once('error', (error) => reject(new Failed(`${command} cannot be run: ${error.message}`)));
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output());
      else reject(new Failed(`${output()}\n${command} ${args.join(' ')} failed (${signal ?? `exit code ${code}`})`));
    });
  }).finally(() => {
    process.off('SIGINT', abandon);
    process.off('SIGTERM', abandon);
  });
}

/**
 * Runs a script that is this command from now on: its output is ours, our signals are its, and it ends when we end, however
 * that is.
 * @returns its exit code; 128 + the signal's number when a signal ended it
 */
export function become(node, args, env) {
  const child = spawn(node, ['--import', withParent, ...args], {
    env,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // A process group of its own: a Ctrl-C reaches it once, from here, and not also from the terminal and from npm.
    detached: true,
  });
  const last = new Map();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      const now = performance.now();
      if (now - (last.get(signal) ?? -Infinity) > 500) child.kill(signal);
      last.set(signal, now);
    });
  }
  // Under `npm`, which passes SIGTERM on but cannot pass on a SIGKILL: its end is then seen here.
  const parent = process.ppid;
  const watch = () => process.ppid !== parent && child.kill('SIGTERM');
  if (process.env.npm_lifecycle_event !== undefined) setInterval(watch, 500).unref();
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal]));
  });
}

/** Runs the main function of a command; a failure that people can mend is told without a stack. */
export async function main(run) {
  try {
    process.exitCode = await run();
  } catch (error) {
    console.error(error instanceof Failed ? error.message : error);
    process.exitCode = 1;
  }
}

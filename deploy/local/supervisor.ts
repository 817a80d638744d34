import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const WITH_PARENT = fileURLToPath(new URL('with-parent.mjs', import.meta.url));
const STOP_MS = 20_000;
/** A process that lived this long starts again at once; one that dies sooner waits longer each time. */
const SETTLED_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
/** Who dies this often before it is ready for the first time never will be. */
const TRIES_TO_START = 4;

export interface Program {
  readonly name: string;
  /** A JavaScript file; it runs on this process's Node. */
  readonly script: string;
  readonly args?: readonly string[];
  /** All of its environment, but for PATH: nothing else of ours reaches it. */
  readonly env: Readonly<Record<string, string>>;
  readonly log: string;
  /** Answers 200 when it is ready. */
  readonly readyUrl: string;
}

/** One process that is meant to run: a dead one is started again, and it is said. */
export class Supervised {
  private child: ChildProcess | undefined;
  private stopping = false;
  private pause = FIRST_PAUSE_MS;
  restarts = 0;
  readonly program: Program;
  private readonly say: (line: string) => void;

  constructor(program: Program, say: (line: string) => void) {
    this.program = program;
    this.say = say;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  start(): void {
    const { name } = this.program;
    const startedAt = performance.now();
    const child = launch(this.program);
    this.child = child;
    const ended = (how: string) => {
      if (this.stopping || this.child !== child) return;
      this.child = undefined;
      this.pause = performance.now() - startedAt > SETTLED_MS ? FIRST_PAUSE_MS : Math.min(this.pause * 2, MAX_PAUSE_MS);
      this.restarts++;
      this.say(`${name} died (${how}); starting it again in ${this.pause} ms`);
      setTimeout(() => {
        if (!this.stopping) this.start();
      }, this.pause);
    };
    child.once('exit', (code, signal) => ended(signal ?? `exit code ${code}`));
    child.once('error', (error) => ended(error.message));
  }

  /** @throws Error with the end of the log when it does not get ready in time */
  async ready(milliseconds: number): Promise<void> {
    const until = performance.now() + milliseconds;
    while (!(await answers(this.program.readyUrl))) {
      if (performance.now() > until || this.restarts >= TRIES_TO_START) {
        throw new Error(
          `${this.program.name} does not get ready; the end of ${this.program.log}:\n${tail(this.program.log)}`,
        );
      }
      await sleep(50);
    }
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.child?.kill(signal);
  }

  /** Starts it again after `stop`. */
  resume(): void {
    this.stopping = false;
    this.start();
  }

  async stop(): Promise<void> {
    this.stopping = true;
    const child = this.child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGTERM');
    // A stopped (SIGSTOP) process takes no SIGTERM.
    child.kill('SIGCONT');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await gone;
    clearTimeout(timer);
  }
}

/** Runs a program to its end. @throws Error with the end of its log when it fails */
export async function runOnce(program: Omit<Program, 'readyUrl'>): Promise<void> {
  const child = launch(program);
  const code = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (exitCode, signal) => resolve(exitCode ?? signal ?? 'unknown'));
  });
  if (code !== 0) throw new Error(`${program.name} failed (${code}); the end of ${program.log}:\n${tail(program.log)}`);
}

function launch({ script, args = [], env, log }: Omit<Program, 'readyUrl'>): ChildProcess {
  mkdirSync(dirname(log), { recursive: true });
  const out = openSync(log, 'a', 0o600);
  const child = spawn(process.execPath, ['--import', WITH_PARENT, script, ...args], {
    env: { PATH: process.env['PATH'] ?? '', NODE_ENV: 'production', ...env },
    // The channel is how the child learns that this process is gone, whatever ended it.
    stdio: ['ignore', out, out, 'ipc'],
  });
  closeSync(out);
  return child;
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

function tail(file: string): string {
  try {
    return readFileSync(file, 'utf8').split('\n').slice(-15).join('\n');
  } catch {
    return '(no log)';
  }
}

import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Account } from './account.js';
import { until, type Probe } from './ready.js';

export interface Launch {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Owned by this server alone: how a process left over from a killed run is told from a stranger. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly account: Account | undefined;
  readonly log: string;
  readonly pidFile: string;
  /** The signal for a clean stop that does not wait for clients. */
  readonly stopSignal: 'SIGINT' | 'SIGTERM';
  readonly probe: Probe;
  /** Told when the server ends although nobody stopped it. */
  readonly onDeath: (how: string) => void;
}

export interface PrivateProcess {
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

// Only a server that hangs is given up: a busy machine takes ten times as long as a quiet one.
const START_MS = 120_000;
const STOP_MS = 15_000;

/** A server as a process of ours that does not outlive us, however we end. */
export function privateProcess(launch: Launch): PrivateProcess {
  let running: { child: ChildProcess; exited: Promise<void> } | undefined;

  async function start(): Promise<void> {
    if (running) return;
    await predecessorGone(launch);
    const deadline = performance.now() + START_MS;
    for (;;) {
      const logStart = existsSync(launch.log) ? statSync(launch.log).size : 0;
      const { child, exited } = (running = spawnServer(launch));
      let up = false;
      const noteEnd = async (): Promise<void> => {
        await exited;
        if (running?.child !== child) return;
        running = undefined;
        if (up) launch.onDeath(child.signalCode ?? `exit code ${child.exitCode}`);
      };
      void noteEnd();
      up = await until(launch.probe, deadline - performance.now(), () => running === undefined);
      if (up) return;
      await end('SIGKILL');
      const said = readFileSync(launch.log).subarray(logStart).toString();
      // The sessions of a postmaster that was killed take a moment to notice and to let go of its shared memory.
      const retry = said.includes('pre-existing shared memory block') && performance.now() < deadline;
      if (!retry) throw new Error(`${launch.name} did not start; the end of ${launch.log}:\n${said.slice(-2_000)}`);
      await sleep(200);
    }
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const ending = running;
    if (!ending) return;
    running = undefined;
    const force = setTimeout(() => ending.child.kill('SIGKILL'), STOP_MS);
    ending.child.kill(signal);
    await ending.exited;
    clearTimeout(force);
    rmSync(launch.pidFile, { force: true });
  }

  return { start, stop: () => end(launch.stopSignal), kill: () => end('SIGKILL') };
}

function spawnServer(launch: Launch): { child: ChildProcess; exited: Promise<void> } {
  const log = openSync(launch.log, 'a');
  const child = spawn(launch.command, launch.args, {
    cwd: launch.cwd,
    env: launch.env,
    ...launch.account,
    stdio: ['ignore', log, log],
    // A session of its own: Ctrl-C reaches us and not the servers, which are stopped after what uses them.
    detached: true,
  });
  closeSync(log);
  child.unref();
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      writeFileSync(launch.log, `${error.message}\n`, { flag: 'a' });
      resolve();
    });
  });
  if (child.pid !== undefined) {
    writeFileSync(launch.pidFile, `${child.pid}\n`);
    const guard = endWithUs(child.pid, launch.stopSignal);
    void exited.then(() => guard.kill('SIGKILL'));
  }
  return { child, exited };
}

// Reads until the pipe from us breaks, which the system does when we end, even by SIGKILL; then stops the server.
const GUARD = `read -r _; kill -s "$1" "$2" 2>/dev/null || exit 0
i=0; while kill -0 "$2" 2>/dev/null; do i=$((i + 1)); [ $i -gt 100 ] && kill -s KILL "$2"; sleep 0.1; done`;

function endWithUs(pid: number, signal: string): ChildProcess {
  const guard = spawn('/bin/sh', ['-c', GUARD, 'sh', signal.replace('SIG', ''), String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  guard.unref();
  (guard.stdin as Socket | null)?.unref();
  return guard;
}

/** Waits for a server of a run that was killed a moment ago, whose guard is stopping it, and kills it if that takes long. */
async function predecessorGone({ pidFile, cwd }: Launch): Promise<void> {
  const started = performance.now();
  while (existsSync(pidFile)) {
    const pid = Number(readFileSync(pidFile, 'utf8'));
    if (!isOurs(pid, cwd)) {
      rmSync(pidFile, { force: true });
      return;
    }
    if (performance.now() - started > STOP_MS) process.kill(pid, 'SIGKILL');
    await sleep(50);
  }
}

/** Whether `pid` still is the server that wrote the pid file, and not a later process with its number. */
export function isOurs(pid: number, cwd: string): boolean {
  try {
    return Number.isInteger(pid) && pid > 1 && readlinkSync(`/proc/${pid}/cwd`) === cwd;
  } catch {
    return false;
  }
}

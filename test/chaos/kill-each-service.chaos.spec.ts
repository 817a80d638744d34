import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ServiceName } from '@sluice/contracts/actor';
import { readTrace } from '../load/replay/trace.ts';
import { STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TRACE = join(ROOT, 'test/load/traces/azure-conversation-500.csv');
const REPLAY_MS = 600_000;
/** In all about as long as the arrivals, so that every kill meets requests in flight, and a busy machine has a service up again before the next. */
const KILL_EVERY_MS = 8_000;
const REQUESTS = 500;
const ARRIVE_WITHIN_MS = 50_000;

let stack: TestStack;
beforeAll(async () => {
  stack = await startTestStack({
    workerEnv: {
      PREFILL_TOKENS_PER_SECOND: '100000',
      PREFILL_OVERHEAD_MS: '5',
      DECODE_MS: '4',
      DECODE_MS_PER_SEQUENCE: '0.05',
      SLOTS: '128',
    },
  });
}, STACK_START_MS);
afterAll(() => stack?.stop());

/** What the replay says in its last line. */
interface Verdict {
  readonly ok: boolean;
  readonly requests: number;
  readonly answered: number;
  readonly differences: {
    readonly requests: number;
    readonly tokensIn: number;
    readonly tokensOut: number;
    readonly usd: string;
  };
}

function replay(): Promise<{ code: number | null; output: string; verdict: Verdict }> {
  const args = [
    '--disable-warning=ExperimentalWarning',
    join(ROOT, 'test/load/replay.ts'),
    '--trace',
    TRACE,
    '--requests',
    String(REQUESTS),
    '--speed',
    String(readTrace(readFileSync(TRACE, 'utf8'), REQUESTS).at(-1)!.at / ARRIVE_WITHIN_MS),
    '--demo',
    join(stack.dir, 'demo.json'),
  ];
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      const last = output.trim().split('\n').at(-1) ?? '';
      resolve({ code, output, verdict: (last.startsWith('{') ? JSON.parse(last) : { ok: false }) as Verdict });
    });
  });
}

describe('kill -9 of each service in turn during a replay of 500', () => {
  it(
    'loses nothing and counts nothing twice of what the client saw answered',
    async () => {
      const run = replay();
      for (const name of ['auth', 'billing', 'metering', 'router', 'gateway'] satisfies ServiceName[]) {
        await sleep(KILL_EVERY_MS);
        stack.services[name].kill('SIGKILL');
      }
      const { code, output, verdict } = await run;
      if (code !== 0) console.error(output);
      expect(verdict).toMatchObject({
        ok: true,
        requests: REQUESTS,
        differences: { requests: 0, tokensIn: 0, tokensOut: 0, usd: '0.00' },
      });
      console.log(output.slice(output.indexOf('answered whole')));
      // Nothing answered would be nothing lost. How many it is depends on how long a busy machine takes to start a service.
      expect(verdict.answered).toBeGreaterThan(20);
      expect(code).toBe(0);
      for (const one of Object.values(stack.services)) expect(one.restarts).toBe(1);
    },
    REPLAY_MS,
  );

  it('left no record that cannot be read', () => {
    for (const name of ['metering', 'billing'])
      expect(readFileSync(join(stack.dir, 'logs', `${name}.log`), 'utf8')).not.toMatch(/dead letter|quarantin/i);
  });
});

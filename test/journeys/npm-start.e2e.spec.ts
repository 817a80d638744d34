import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { dropBacking } from '@sluice/testing';
import type { Demo } from '../../deploy/local/demo.ts';
import { call, eventually, newFolder } from '../stack.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const START_MS = 300_000;
const run = promisify(execFile);

let dir: string;
let started: { child: ChildProcess; output: string };
beforeAll(async () => {
  dir = newFolder('start-');
  started = await start();
}, START_MS);
afterAll(async () => {
  started?.child.kill('SIGKILL');
  await dropBacking(join(dir, 'backing'));
  rmSync(dir, { recursive: true, force: true });
});

/** `npm start` as a user has it: packages are there, so it goes straight to the stack. Comes back when it says it is ready. */
async function start(...args: string[]) {
  const env = { ...process.env, BACKING: 'local', NODE_OPTIONS: '' };
  for (const name of ['SLUICE_POSTGRES_URL', 'SLUICE_NATS_URL', 'SLUICE_REDIS_URL'])
    delete env[name as keyof typeof env];
  const child = spawn('npm', ['start', '--', '--dir', dir, '--port', '0', ...args], {
    cwd: ROOT,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const state = { child, output: '' };
  const add = (chunk: Buffer) => (state.output += chunk.toString());
  child.stdout.on('data', add);
  child.stderr.on('data', add);
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(`npm start ended:\n${state.output}`);
    return state.output.includes('See what it cost');
  }, START_MS);
  return state;
}

const demo = () => JSON.parse(readFileSync(join(dir, 'demo.json'), 'utf8')) as Demo;
/** Processes that have our folder in their command line or environment. */
async function ours(): Promise<string[]> {
  const { stdout } = await run('ps', ['-eo', 'pid,args']);
  return stdout.split('\n').filter((line) => line.includes(dir));
}

describe('npm start', () => {
  it('prints a curl that works as pasted', async () => {
    const curl = /(curl \S+\/chat\/completions[\s\S]*?'\{.*\}')/.exec(started.output)![1]!;
    const { stdout } = await run('bash', ['-c', curl.replace(/^curl/, 'curl -sS')]);
    expect(JSON.parse(stdout)).toMatchObject({
      object: 'chat.completion',
      usage: { prompt_tokens: expect.any(Number) },
    });
  });

  it('prints an openai snippet that works as pasted', async () => {
    const snippet = /(import OpenAI[\s\S]*?usage\);)/.exec(started.output)![1]!;
    const file = join(ROOT, '.sluice', `hello-${process.pid}.mjs`);
    writeFileSync(file, snippet);
    try {
      const { stdout } = await run('npx', ['node', file], { cwd: ROOT, env: { ...process.env, NODE_OPTIONS: '' } });
      expect(stdout).toContain('completion_tokens');
    } finally {
      rmSync(file);
    }
  });

  it('keeps the same facts in a file that only its owner can read', () => {
    expect(statSync(join(dir, 'demo.json')).mode & 0o777).toBe(0o600);
    const facts = demo();
    for (const fact of [facts.baseUrl, facts.operatorKey, facts.managementKey, facts.inferenceKey, facts.model])
      expect(started.output).toContain(fact);
    expect(facts).toMatchObject({
      organization: 'demo',
      backing: {
        postgresUrls: { auth: expect.any(String) },
        natsUrl: expect.any(String),
        redisUrl: expect.any(String),
      },
    });
  });

  it('starts a service again that died, and says so', async () => {
    const { stdout } = await run('ps', ['-eo', 'pid,args']);
    const metering = stdout.split('\n').filter((line) => line.includes('apps/metering/dist/main.js'));
    const mine = await eventually(async () => {
      for (const line of metering) {
        const pid = line.trim().split(' ')[0]!;
        try {
          if (readFileSync(`/proc/${pid}/environ`, 'utf8').includes(new URL(demo().services['metering']!).port))
            return Number(pid);
        } catch {
          // Another Sluice's, which ended meanwhile.
        }
      }
      return undefined;
    });
    process.kill(mine, 'SIGKILL');
    await eventually(async () => started.output.includes('metering died (SIGKILL)'));
    await eventually(async () => (await fetch(`${demo().services['metering']}/readyz`).catch(() => undefined))?.ok);
  });

  it(
    'stops everything on SIGTERM, keeps the data, and goes on with it at the next start',
    async () => {
      const before = demo();
      const exit = once(started.child, 'exit');
      started.child.kill('SIGTERM');
      await exit;
      await eventually(async () => (await ours()).length === 0);
      started = await start();
      expect(demo().inferenceKey).toBe(before.inferenceKey);
      const { status, body } = await call<{ data: { balance: string } }>(
        demo().baseUrl,
        before.managementKey,
        'GET',
        '/api/billing/status',
      );
      expect(status).toBe(200);
      expect(body.data.balance).toMatch(/^2[0-9]\.\d+$/);
    },
    START_MS,
  );

  it('leaves no process behind even when it is killed', async () => {
    const facts = demo();
    started.child.kill('SIGKILL');
    await eventually(async () => (await ours()).length === 0);
    await eventually(async () => !(await fetch(`${facts.baseUrl}/livez`).catch(() => undefined)));
  });
});

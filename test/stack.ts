// A whole Sluice of a test's own: its processes, servers and data are nobody else's, and go with it.
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ensureDemo, type Demo } from '../deploy/local/demo.ts';
import { startStack, type Stack, type StackOptions } from '../deploy/local/stack.ts';

/** For a `beforeAll` that starts a stack, in milliseconds. */
export const STACK_START_MS = 300_000;
/** The simulated workers of a test lose no time. */
const FAST = {
  PREFILL_TOKENS_PER_SECOND: '1000000',
  PREFILL_OVERHEAD_MS: '1',
  DECODE_MS: '1',
  DECODE_MS_PER_SEQUENCE: '0',
};

const FOLDERS = fileURLToPath(new URL('../.sluice/test/', import.meta.url));

/** A new folder of a test's own that PostgreSQL, which runs as another user, can pass through. */
export function newFolder(prefix: string): string {
  mkdirSync(FOLDERS, { recursive: true });
  const dir = mkdtempSync(join(FOLDERS, prefix));
  chmodSync(dir, 0o711);
  return dir;
}

export interface TestStack extends Stack {
  readonly demo: Demo;
  readonly dir: string;
}

export async function startTestStack(
  options: Partial<Pick<StackOptions, 'workers' | 'workerEnv' | 'serviceEnv' | 'rewire' | 'prefer'>> = {},
): Promise<TestStack> {
  const dir = newFolder('stack-');
  // BACKING chooses the kind; servers that other tests share are not for one that stops them.
  const env = { BACKING: process.env['BACKING'] };
  const stack = await startStack({
    workerEnv: FAST,
    prefer: 'docker',
    ...options,
    dir,
    keep: false,
    env,
    say: () => {},
  });
  try {
    const demo = await ensureDemo(stack, join(dir, 'demo.json'));
    const stop = async () => {
      await stack.stop();
      rmSync(dir, { recursive: true, force: true });
    };
    return { ...stack, stop, dir, demo };
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

export interface Answer<T> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}

/** One JSON call with a credential. */
export async function call<T = { data: never }>(
  baseUrl: string,
  key: string | undefined,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer<T>> {
  const raw = typeof body === 'string' || body instanceof Uint8Array;
  const response = await fetch(baseUrl + path, {
    method,
    headers: {
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: (text === '' ? undefined : JSON.parse(text)) as T,
  };
}

/** Looks until `check` gives something; what comes by events comes a moment later. @throws Error after `milliseconds` */
export async function eventually<T>(check: () => Promise<T | undefined | false>, milliseconds = 60_000): Promise<T> {
  for (const until = performance.now() + milliseconds; ; await sleep(50)) {
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > until) throw new Error(`not so after ${milliseconds / 1000} s`);
  }
}

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** `npm run prove -- …` as a process: all that it says, and its last line; nothing of a verdict where there was none. */
export function proved<V>(...command: string[]): Promise<{ output: string; verdict: Partial<V> }> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'test/prove.ts', ...command], {
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
      resolve({ output, verdict: (last.startsWith('{') ? JSON.parse(last) : {}) as Partial<V> });
    });
  });
}

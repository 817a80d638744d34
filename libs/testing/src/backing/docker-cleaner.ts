import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Removes containers and networks when asked, and also when this process ends without asking, even by SIGKILL. */
export interface DockerCleaner {
  /** Before it is created. */
  add(kind: 'container' | 'network', name: string): void;
  clean(): Promise<void>;
}

export function dockerCleaner(): DockerCleaner {
  // A process of its own, waiting for the pipe from us to break.
  const script = new URL(`./docker-cleaner-process${extname(import.meta.url)}`, import.meta.url);
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', fileURLToPath(script)], {
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.unref();
  (child.stdin as unknown as Socket).unref();
  child.stdin.on('error', () => {});
  return {
    add: (kind, name) => child.stdin.write(`${kind} ${name}\n`),
    async clean() {
      child.ref();
      child.stdin.end();
      await exited;
    },
  };
}

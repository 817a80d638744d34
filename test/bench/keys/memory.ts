import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { progressOf } from '../../load/replay/progress.ts';

/** What the child says; bytes. */
export type FillMessage =
  | { readonly done: number }
  | { readonly fresh: number; readonly empty: number; readonly full: number; readonly profiles: number };

/** Resident memory in MB (10^6 bytes), each after a garbage collection. */
export interface Memory {
  /** Of a process that has done nothing yet. */
  readonly freshMB: number;
  /** Of one that has made look-ups and kept a thousand. */
  readonly emptyMB: number;
  readonly fullMB: number;
  /** What the cached keys take. */
  readonly moreMB: number;
  readonly bytesPerKey: number;
  readonly profiles: number;
}

const megabytes = (bytes: number): number => Math.round(bytes / 1e6);

/**
 * The resident memory of a process with the gateway's built modules, at work with few keys and with this many. They are put into the
 * gateway's own projection as parsed look-up answers: over HTTP that would take an hour, and end in the same objects.
 */
export async function cachedKeys(keys: number, stopping: AbortSignal): Promise<Memory> {
  const progress = progressOf('caching', keys);
  const child = fork(fileURLToPath(new URL('fill.ts', import.meta.url)), [String(keys)], {
    execArgv: ['--expose-gc'],
    signal: stopping,
  });
  try {
    return await new Promise<Memory>((resolve, reject) => {
      child.on('message', (message: FillMessage) => {
        if ('done' in message) return progress.set(message.done);
        const { fresh, empty, full, profiles } = message;
        resolve({
          freshMB: megabytes(fresh),
          emptyMB: megabytes(empty),
          fullMB: megabytes(full),
          moreMB: megabytes(full - empty),
          bytesPerKey: Math.round((full - empty) / keys),
          profiles,
        });
      });
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`the process that fills ended with ${code}`)));
    });
  } finally {
    progress.end();
    child.kill();
  }
}

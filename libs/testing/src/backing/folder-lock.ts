import { readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * One running backing per folder: two PostgreSQL servers on one data folder destroy it.
 * @returns release, which removes the folder too when it is empty
 * @throws Error naming the process that holds the folder
 */
export function lockFolder(folder: string): () => void {
  const file = join(folder, 'lock');
  const mine = `${process.pid} ${birth(process.pid) ?? ''}`;
  for (;;) {
    try {
      writeFileSync(file, mine, { flag: 'wx' });
      return () => {
        rmSync(file, { force: true });
        try {
          rmdirSync(folder);
        } catch {
          // Something is in it.
        }
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const [pid = '', born = ''] = readFileSync(file, 'utf8').split(' ');
    if (isAlive(Number(pid)) && born === (birth(Number(pid)) ?? '')) {
      throw new Error(
        `process ${pid} runs backing services in ${folder} already; stop it first, or use another folder`,
      );
    }
    // Left by a run that was killed.
    rmSync(file, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When a process began, in clock ticks since boot: tells it from a later one with the same number. Linux only. */
function birth(pid: number): string | undefined {
  try {
    // The command's name, in parentheses, may hold spaces; the start time is the 20th field after it.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.split(' ')[19];
  } catch {
    return undefined;
  }
}

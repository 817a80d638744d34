import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { stateDir } from './workspace.js';

/** Whom the servers run as when we are root: PostgreSQL refuses root, and the others do not need it. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** `nobody` when we are root; undefined, meaning ourselves, otherwise. */
export function serverAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: '-u' | '-g'): number => Number(execFileSync('id', [flag, 'nobody'], { timeout: 60_000 }));
  return { uid: id('-u'), gid: id('-g') };
}

/**
 * Where files that belong at `folder` really go: there, unless `account` cannot get into it (a checkout under a home of mode
 * 0700, say). Then a folder of the system's, which `.sluice/outside` points to, so that it is found again.
 * The folder exists afterwards.
 */
export function enterable(folder: string, account: Account | undefined): string {
  makeFolder(folder);
  if (!account || canEnter(folder, account)) return folder;
  return makeFolder(join(outside(), createHash('sha256').update(folder).digest('hex').slice(0, 12)));
}

/** Made whatever the umask says: the account must get through it. What is secret inside has its own mode. */
function makeFolder(folder: string): string {
  if (existsSync(folder)) return folder;
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o755);
  return folder;
}

const canEnter = (folder: string, account: Account): boolean =>
  spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], { ...account, cwd: '/', stdio: 'ignore', timeout: 60_000 })
    .status === 0;

const pointer = join(stateDir, 'outside');

function existingOutside(): string | undefined {
  try {
    const target = readlinkSync(pointer);
    return existsSync(target) ? target : undefined;
  } catch {
    return undefined;
  }
}

function outside(): string {
  const existing = existingOutside();
  if (existing) return existing;
  // A random name: the parent folder is everybody's, and what lies here is run.
  const made = mkdtempSync('/var/tmp/sluice-');
  chmodSync(made, 0o755);
  makeFolder(stateDir);
  // The first of several processes at once decides; one that points nowhere is left from a folder somebody removed.
  if (!existsSync(pointer)) rmSync(pointer, { force: true });
  try {
    symlinkSync(made, pointer);
  } catch (error) {
    rmSync(made, { recursive: true });
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return outside();
  }
  return made;
}

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchDebianPackages, libraryPath } from '@sluice/testing';

/** Found as NATS and Redis are: on PATH, else from Debian's packages, unpacked into the checkout and not installed. */
const CACHE = fileURLToPath(new URL('../../../.sluice/bin/bench-debian', import.meta.url));
const PACKAGES = ['wrk', 'nginx'];

export interface Tool {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
  readonly version: string;
}

export interface Tools {
  readonly wrk: Tool | undefined;
  readonly nginx: Tool | undefined;
  /** Why something is not there. */
  readonly why: string | undefined;
}

export async function findTools(say: (line: string) => void): Promise<Tools> {
  const onPath = { wrk: onThePath('wrk'), nginx: onThePath('nginx') };
  if (onPath.wrk && onPath.nginx) return { ...onPath, why: undefined };
  let why: string | undefined;
  try {
    await unpackOnce(say);
  } catch (error) {
    why = (error as Error).message;
  }
  const env = { LD_LIBRARY_PATH: libraryPath(CACHE) };
  const unpacked = (path: string) => check(join(CACHE, path), env);
  return {
    wrk: onPath.wrk ?? unpacked('usr/bin/wrk'),
    nginx: onPath.nginx ?? unpacked('usr/sbin/nginx'),
    why,
  };
}

function onThePath(name: string): Tool | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin'].filter((folder) => folder !== '');
  return check(folders.map((folder) => join(folder, name)).find((path) => existsSync(path)) ?? '', {});
}

/** Both print their version with `-v`, wrk with an exit code of 1. */
function check(command: string, env: Record<string, string>): Tool | undefined {
  if (!existsSync(command)) return undefined;
  const { stdout, stderr } = spawnSync(command, ['-v'], { env, encoding: 'utf8', timeout: 5_000 });
  const version = /(?:wrk (?:debian\/)?|nginx\/)([\w.-]+)/.exec(`${stdout}${stderr}`)?.[1];
  return version === undefined ? undefined : { command, env, version };
}

async function unpackOnce(say: (line: string) => void): Promise<void> {
  if (existsSync(CACHE)) return;
  mkdirSync(dirname(CACHE), { recursive: true });
  const draft = mkdtempSync(`${CACHE}.`);
  try {
    say(`trying apt-get for ${PACKAGES.join(' and ')}, unpacked into .sluice`);
    await fetchDebianPackages(PACKAGES, draft);
    // Whole or not at all; a second run at the same time may have been faster.
    if (!existsSync(CACHE)) renameSync(draft, CACHE);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

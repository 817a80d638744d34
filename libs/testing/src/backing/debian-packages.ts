import { execFile } from 'node:child_process';
import { globSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const APT_MS = 90_000;

/**
 * Downloads packages and the libraries that they need and this machine lacks, and unpacks them below `target`, without root
 * and without installing anything: apt with state of its own, sources and keys of the system's.
 */
export async function fetchDebianPackages(names: readonly string[], target: string): Promise<void> {
  if (!(await runs('apt-get', '--version')) || !(await runs('dpkg-deb', '--version'))) {
    throw new Error('apt-get and dpkg-deb (Debian, Ubuntu) are not here to fetch it with');
  }
  const work = mkdtempSync(join(tmpdir(), 'sluice-apt-'));
  try {
    const apt = privateApt(work);
    await apt('update');
    await apt('download', ...names);
    const libraries = await missingLibraries(debsIn(work));
    if (libraries.length > 0) await apt('download', ...libraries);
    for (const deb of debsIn(work)) await run('dpkg-deb', ['-x', deb, target], { timeout: APT_MS });
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error(`apt-get could not fetch ${names.join(', ')}: ${lastLine(stderr) ?? lastLine(message)}`, {
      cause: error,
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function privateApt(work: string): (...args: string[]) => Promise<unknown> {
  for (const folder of ['lists/partial', 'cache/archives/partial', 'debs'])
    mkdirSync(join(work, folder), { recursive: true });
  const options = [
    `Dir::State::lists=${join(work, 'lists')}`,
    `Dir::Cache=${join(work, 'cache')}`,
    'Debug::NoLocking=1',
    'APT::Sandbox::User=',
    'Acquire::Languages=none',
    'Acquire::http::Timeout=20',
    'Acquire::https::Timeout=20',
  ].flatMap((option) => ['-o', option]);
  return (...args) =>
    run('apt-get', ['-q', ...options, ...args], { cwd: join(work, 'debs'), timeout: APT_MS, maxBuffer: 2 ** 24 });
}

/** The LD_LIBRARY_PATH with which binaries unpacked below `target` find the libraries beside them. */
export const libraryPath = (target: string): string =>
  ['lib', 'usr/lib'].flatMap((lib) => globSync(join(target, lib, '*-linux-*'))).join(':');

const debsIn = (work: string): string[] => globSync('debs/*.deb', { cwd: work }).map((name) => join(work, name));

/** The libraries in the packages' Depends fields that are not installed on this machine. */
async function missingLibraries(debs: readonly string[]): Promise<string[]> {
  const missing = new Set<string>();
  for (const deb of debs) {
    const { stdout } = await run('dpkg-deb', ['-f', deb, 'Depends', 'Pre-Depends'], { timeout: APT_MS });
    for (const [, name] of stdout.matchAll(/(?:^|[,:])\s*(lib[a-z0-9.+-]+)/gm)) {
      if (name && !(await isInstalled(name)) && !debs.some((other) => basename(other).startsWith(`${name}_`)))
        missing.add(name);
    }
  }
  return [...missing];
}

const isInstalled = async (name: string): Promise<boolean> =>
  run('dpkg-query', ['-W', '-f', '${Status}', name], { timeout: APT_MS }).then(
    ({ stdout }) => stdout.startsWith('install ok installed'),
    () => false,
  );

const runs = (command: string, argument: string): Promise<boolean> =>
  run(command, [argument], { timeout: APT_MS }).then(
    () => true,
    () => false,
  );

const lastLine = (text: string | undefined): string | undefined =>
  text
    ?.trim()
    .split('\n')
    .findLast((line) => line !== '');

// What is left when the process that started the servers is killed: nothing, in either kind.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { enterable, serverAccount } from './account.js';
import { dockerWay } from './docker.js';
import { localWay } from './local.js';
import { dropBacking, startBacking } from './start-backing.js';
import { stateDir } from './workspace.js';

const NEED = ['postgres', 'nats', 'redis'] as const;
const LONG = 120_000;
const dir = join(stateDir, 'test', `killed-${process.pid}`);
const place = enterable(dir, serverAccount());
const parents: ChildProcess[] = [];

// The sources as they are, with the `.js` of their imports read as `.ts`.
const FROM_SOURCE = `data:text/javascript,import { registerHooks } from 'node:module';
registerHooks({ resolve: (specifier, context, next) => {
  try { return next(specifier, context); } catch (error) {
    if (!/^[.].*[.]js$/.test(specifier)) throw error;
    return next(specifier.replace(/js$/, 'ts'), context);
  } } });`;

/** A process that starts the three servers and does nothing more. */
async function parent(kind: string): Promise<{ kill: () => Promise<void>; urls: string[] }> {
  const source = new URL('./start-backing.ts', import.meta.url).href;
  const script = `const { startBacking } = await import(${JSON.stringify(source)});
    const backing = await startBacking({ dir: ${JSON.stringify(dir)}, need: ${JSON.stringify(NEED)}, keep: true });
    console.log(JSON.stringify([backing.postgres.url, backing.nats.monitorUrl, backing.redis.url]));
    setInterval(() => {}, 1000);`;
  const env = {
    ...process.env,
    NODE_OPTIONS: '',
    BACKING: kind,
    SLUICE_POSTGRES_URL: '',
    SLUICE_NATS_URL: '',
    SLUICE_REDIS_URL: '',
  };
  const args = ['--disable-warning=ExperimentalWarning', '--import', FROM_SOURCE, '--input-type=module', '-e', script];
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  parents.push(child);
  const failed = once(child, 'exit').then(() =>
    Promise.reject(new Error('the process ended before its servers were up')),
  );
  const [line] = (await Promise.race([once(createInterface({ input: child.stdout }), 'line'), failed])) as [string];
  failed.catch(() => {});
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return { kill, urls: JSON.parse(line) as string[] };
}

/** Processes with their folder in ours; on systems without /proc, none. */
function processesIn(folder: string): number[] {
  let entries: string[];
  try {
    entries = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  } catch {
    return [];
  }
  return entries.map(Number).filter((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/cwd`).startsWith(folder);
    } catch {
      return false;
    }
  });
}

async function eventually(holds: () => boolean | Promise<boolean>): Promise<boolean> {
  for (let tries = 0; tries < 1_200; tries += 1) {
    if (await holds()) return true;
    await sleep(50);
  }
  return false;
}

const silent = async (monitorUrl: string): Promise<boolean> =>
  fetch(monitorUrl, { signal: AbortSignal.timeout(1_000) }).then(
    () => false,
    () => true,
  );

describe('when the process that started the servers is killed', () => {
  afterEach(async () => {
    for (const child of parents.splice(0)) child.kill('SIGKILL');
    await dropBacking(dir);
  }, LONG);

  const ways = { local: localWay, docker: dockerWay };
  for (const kind of ['local', 'docker'] as const) {
    it(
      `its ${kind === 'local' ? 'servers end' : 'containers are removed'}, and the next run goes on with their data`,
      async () => {
        const way = await ways[kind](NEED, { dir: stateDir, need: NEED });
        // No Docker, or no packages, on this machine: then nothing of this kind can be left behind.
        if ('why' in way) return;
        const killed = await parent(kind);
        if (kind === 'local') expect(processesIn(place).length).toBeGreaterThanOrEqual(3);
        await killed.kill();

        // At once, while the guards are still at work.
        const next = await startBacking({
          dir,
          need: NEED,
          keep: true,
          env: { ...process.env, BACKING: kind, SLUICE_POSTGRES_URL: '', SLUICE_NATS_URL: '', SLUICE_REDIS_URL: '' },
        });
        await next.stop();
        expect(await eventually(() => processesIn(place).length === 0)).toBe(true);
        expect(await eventually(() => silent(killed.urls[1]!))).toBe(true);
      },
      LONG,
    );
  }

  it(
    'PostgreSQL is never run as root',
    async () => {
      const { kill } = await parent('local');
      const owners = processesIn(place).flatMap((pid) => {
        try {
          return [[readFileSync(`/proc/${pid}/comm`, 'utf8').trim(), statSync(`/proc/${pid}`).uid]];
        } catch {
          // Ended since it was listed.
          return [];
        }
      });
      await kill();
      expect(owners.filter(([name]) => name === 'postgres').length).toBeGreaterThan(0);
      expect(owners.filter(([name, uid]) => name === 'postgres' && uid === 0)).toEqual([]);
    },
    LONG,
  );
});

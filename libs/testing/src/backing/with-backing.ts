import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Backing, ServerName } from './backing.js';
import { URL_NAMES } from './from-environment.js';
import { freshDatabase, type FreshDatabase } from './fresh-database.js';
import { startBacking } from './start-backing.js';
import { stateDir } from './workspace.js';

// The first run on a machine fetches packages or images.
const START_MS = 300_000;

export interface SuiteBacking<Need extends ServerName> {
  /** The servers; only inside tests and hooks. */
  (): Backing<Need>;
  /** An empty database for this suite, gone at its end. Needs 'postgres'. */
  database: (name: string) => Promise<FreshDatabase>;
}

/**
 * Backing services for a jest suite; call it where `beforeAll` may be called. In `npm test` the suites share the servers of the
 * run, so what they make there has names of its own; by hand, or with `own`, a suite has servers of its own, which it may stop.
 */
export function withBacking<const Need extends ServerName>(
  need: readonly Need[],
  { own = false, natsConfig }: { own?: boolean; natsConfig?: string } = {},
): SuiteBacking<Need> {
  let backing: Backing<Need> | undefined;
  const databases: FreshDatabase[] = [];
  const suite = globalThis as unknown as Suite;

  suite.beforeAll(async () => {
    const dir = join(stateDir, 'test', `suite-${process.pid}-${randomBytes(3).toString('hex')}`);
    const env = own || natsConfig !== undefined ? withoutUrls(process.env) : process.env;
    backing = await startBacking({ dir, need, env, ...(natsConfig === undefined ? {} : { natsConfig }) });
  }, START_MS);
  // After the suite's own hooks, which close what uses the servers.
  const atEnd = suite[Symbol.for('sluice.testing.at-end')];
  if (!atEnd) throw new Error('withBacking needs the test environment libs/testing/jest-environment.mjs');
  atEnd.push(async () => {
    await Promise.all(databases.map((database) => database.drop()));
    await backing?.stop();
  });

  const current = (): Backing<Need> => {
    if (!backing) throw new Error('the backing services run only inside tests and hooks of this suite');
    return backing;
  };
  return Object.assign(current, {
    database: async (name: string) => {
      const database = await freshDatabase(current() as unknown as Backing<'postgres'>, name);
      databases.push(database);
      return database;
    },
  });
}

/** What a suite has in its globals: jest's hook, and what libs/testing/jest-environment.mjs adds. */
interface Suite {
  beforeAll: (hook: () => Promise<void>, milliseconds: number) => void;
  [atEnd: symbol]: (() => Promise<void>)[];
}

const withoutUrls = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !Object.values(URL_NAMES).includes(name)));

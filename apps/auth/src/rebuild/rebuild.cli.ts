import { parseArgs } from 'node:util';
import { MikroORM, type EntityManager } from '@mikro-orm/postgresql';
import { ConfigError } from '@sluice/service-kit';
import { authDatabase } from '../database.js';
import { READ_MODELS, REPLAYED } from './read-models.js';
import { rebuildConfig } from './rebuild.config.js';
import { compareRebuilt, stateAt } from './rebuild.store.js';

const USAGE = `usage: npm run rebuild -- auth [--at 2026-01-31T12:00:00Z]
Rebuilds every read model of auth from its events and compares it with the live one; with --at it prints the state of
that moment as JSON. Nothing is changed.`;

/** The last line is JSON; exit code 1 where a read model is not what its events say. */
async function main(): Promise<number> {
  const { values } = parseArgs({ options: { at: { type: 'string' }, help: { type: 'boolean' } } });
  if (values.help) return say(USAGE, 0);
  const at = values.at === undefined ? undefined : new Date(values.at);
  if (at !== undefined && Number.isNaN(at.getTime())) return say(`--at is not a time: ${values.at}\n${USAGE}`, 2);

  const orm = await MikroORM.init(authDatabase(rebuildConfig().DATABASE_URL));
  const options = { em: orm.em as EntityManager, replayed: REPLAYED, models: READ_MODELS, onProgress: progress };
  try {
    if (at !== undefined) {
      process.stdout.write(`${JSON.stringify({ at: at.toISOString(), ...(await stateAt(options, at)) })}\n`);
      return 0;
    }
    const { events, tables } = await compareRebuilt(options);
    for (const { table, rows, missing, extra } of tables) {
      const same = missing.length === 0 && extra.length === 0;
      process.stdout.write(`${table.padEnd(16)} ${String(rows).padStart(9)} rows  ${same ? 'equal' : 'DIFFERENT'}\n`);
      for (const row of missing) process.stdout.write(`  live only:    ${JSON.stringify(row)}\n`);
      for (const row of extra) process.stdout.write(`  rebuilt only: ${JSON.stringify(row)}\n`);
    }
    const ok = tables.every(({ missing, extra }) => missing.length === 0 && extra.length === 0);
    const rows = Object.fromEntries(tables.map(({ table, rows }) => [table, rows]));
    process.stdout.write(`${JSON.stringify({ name: 'rebuild-auth', events, rows, ok })}\n`);
    return ok ? 0 : 1;
  } finally {
    await orm.close(true);
  }
}

function say(text: string, code: number): number {
  process.stderr.write(`${text}\n`);
  return code;
}

function progress(done: number, of: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${of} events${done === of ? '\n' : ''}`);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof ConfigError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS'))) throw error;
  process.exitCode = say(`${(error as Error).message}\n${USAGE}`, 2);
}

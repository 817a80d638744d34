import { parseArgs } from 'node:util';
import { MikroORM } from '@mikro-orm/postgresql';
import { systemClock } from '@sluice/primitives/clock';
import { ConfigError } from '@sluice/service-kit';
import { meteringDatabase } from '../database.js';
import { rebuildConfig } from './rebuild.config.js';
import { compareRebuilt, RepairUnderWay, type RebuildReport } from './rebuild.store.js';

const USAGE = `usage: npm run rebuild -- metering [--repair]
Makes the rollups and the totals of keys anew from the usage records that are there, and compares them with the live
ones, while the service goes on. Nothing is changed but with --repair, which books what the live rows are wrong by.`;

/** The last line is JSON; exit code 1 where a row is not what the records say. */
async function main(): Promise<number> {
  const { values } = parseArgs({ options: { repair: { type: 'boolean' }, help: { type: 'boolean' } } });
  if (values.help) return say(USAGE, 0);
  const { DATABASE_URL, MINUTE_RETENTION_DAYS } = rebuildConfig();
  const options = meteringDatabase(DATABASE_URL);
  const orm = await MikroORM.init({
    ...options,
    // A page of what is made anew takes as long as it takes; its temporary tables have 256 MiB of memory.
    driverOptions: { ...(options.driverOptions as object), query_timeout: 0, options: '-c temp_buffers=32768' },
  });
  const compare = async (repair: boolean): Promise<RebuildReport> =>
    compareRebuilt({
      em: orm.em,
      now: systemClock.now(),
      minuteDays: MINUTE_RETENTION_DAYS,
      repair,
      onProgress: progress,
    });
  try {
    const found = await compare(values.repair ?? false);
    print(found);
    if (!values.repair || isEqual(found)) return conclude(found, {});
    process.stdout.write('repaired; once more:\n');
    const left = await compare(false);
    print(left);
    return conclude(left, { repaired: differencesOf(found) });
  } finally {
    await orm.close(true);
  }
}

const isEqual = ({ tables }: RebuildReport): boolean => tables.every(({ different }) => different === 0);
const differencesOf = ({ tables }: RebuildReport) =>
  Object.fromEntries(tables.map(({ table, different }) => [table, different]));

function print({ proven: { days, minuteDays, leftOut }, tables }: RebuildReport): void {
  const span = (some: readonly string[]) => (some.length === 0 ? 'none' : `${some[0]} to ${some.at(-1)}`);
  process.stdout.write(`days made anew: ${span(days)} (${days.length}), with minutes: ${span(minuteDays)}\n`);
  if (leftOut.length > 0)
    process.stdout.write(`left out, as records of what ended on them may be gone: ${leftOut.join(', ')}\n`);
  for (const { table, rows, different, shown } of tables) {
    const verdict = different === 0 ? 'equal' : `${different} DIFFERENT`;
    process.stdout.write(`${table.padEnd(21)} ${String(rows).padStart(9)} rows  ${verdict}\n`);
    for (const row of shown) process.stdout.write(`  [live, rebuilt]: ${JSON.stringify(row)}\n`);
    if (different > shown.length) process.stdout.write(`  and ${different - shown.length} more\n`);
  }
}

function conclude(report: RebuildReport, more: object): number {
  const { records, proven, tables } = report;
  const ok = isEqual(report);
  const rows = Object.fromEntries(tables.map(({ table, rows }) => [table, rows]));
  const { days, leftOut } = proven;
  const line = {
    name: 'rebuild-metering',
    records,
    days: days.length,
    leftOut,
    rows,
    different: differencesOf(report),
  };
  process.stdout.write(`${JSON.stringify({ ...line, ...more, ok })}\n`);
  return ok ? 0 : 1;
}

function say(text: string, code: number): number {
  process.stderr.write(`${text}\n`);
  return code;
}

function progress(done: number, of: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${of} records${done === of ? '\n' : ''}`);
}

try {
  process.exitCode = await main();
} catch (error) {
  const expected =
    error instanceof ConfigError ||
    error instanceof RepairUnderWay ||
    (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  if (!expected) throw error;
  process.exitCode = say(`${(error as Error).message}\n${USAGE}`, 2);
}

import { IsolationLevel } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { daysOfAllKeys, foldedDays } from '../folding/folded-days.store.js';
import { recordDays } from '../retention/record-days.store.js';
import { tablesOf } from '../tables.js';
import { keptLateDays } from '../usage/late-days.store.js';
import type { Granularity } from '../usage/rollup.js';
import { keyTotalDifferences, rollupDifferences, type KeyTotalDifference } from './differences.store.js';
import { provenDays, type ProvenDays } from './proven-days.js';
import { rebuild, REBUILT, takeSnapshot } from './rebuilt.store.js';
import { onlyRepair, repairDay, repairKeyTotals } from './repair.store.js';
import { shownDifference } from './row-difference.js';

const SHOWN = 5;

export interface TableReport {
  readonly table: string;
  /** That were made anew. */
  readonly rows: number;
  /** How many are not the same, and the first of them. */
  readonly different: number;
  readonly shown: readonly object[];
}

export interface RebuildReport {
  readonly records: number;
  readonly proven: ProvenDays;
  readonly tables: readonly TableReport[];
}

export interface RebuildOptions {
  readonly em: EntityManager;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** Days of minutes that the service keeps. */
  readonly minuteDays: number;
  /** Makes right what is different. */
  readonly repair?: boolean;
  readonly onProgress?: (done: number, of: number) => void;
}

export class RepairUnderWay extends Error {
  override readonly message = 'somebody else repairs these tables';
}

/**
 * Makes rollups and totals of keys anew from the records, in one snapshot, and compares them row by row with the live ones:
 * it holds while others book. Memory is a few pages, whatever there is; what was made anew is in temporary tables.
 * @throws RepairUnderWay
 */
export async function compareRebuilt(options: RebuildOptions): Promise<RebuildReport> {
  const { em, now, minuteDays, repair = false, onProgress = () => {} } = options;
  return em.fork().transactional(
    async (tx) => {
      await takeSnapshot(tx);
      if (repair && !(await onlyRepair(tx))) throw new RepairUnderWay();
      const proven = provenDays(await recordDays(tx), await keptLateDays(tx), now, minuteDays);
      const records = await rebuild(tx, proven, await foldedDays(tx), onProgress);
      const found = new Findings();
      for (const day of [...proven.days, ...(await daysOfAllKeys(tx, proven.days))]) {
        const granularities = granularitiesOf(day, proven);
        let wrong = false;
        for (const rollup of [...granularities, 'day_all_keys'] as const)
          for await (const page of rollupDifferences(tx, rollup, day)) {
            wrong = true;
            found.add(`usage_by_${rollup}`, page, shownDifference);
          }
        if (repair && wrong)
          await repairDay(
            em,
            day,
            granularities.map((each) => [each, rollupDifferences(tx, each, day)]),
          );
      }
      for await (const page of keyTotalDifferences(tx, proven.days)) found.add('key_totals', page, shownTotal);
      if (repair && found.of('key_totals').different > 0)
        await repairKeyTotals(em, keyTotalDifferences(tx, proven.days));
      const tables: TableReport[] = [];
      for (const table of REBUILT) tables.push({ table, rows: await countRebuilt(tx, table), ...found.of(table) });
      return { records, proven, tables };
    },
    { isolationLevel: IsolationLevel.REPEATABLE_READ },
  );
}

/** What can be made anew of a day from records; nothing of one that is only to be what its keys are together. */
function granularitiesOf(day: string, { days, minuteDays }: ProvenDays): readonly Granularity[] {
  if (minuteDays.includes(day)) return ['minute', 'hour', 'day'];
  return days.includes(day) ? ['hour', 'day'] : [];
}

/** How many rows of each table are different, and the first of them. */
class Findings {
  readonly #found = new Map<string, { different: number; shown: object[] }>();

  add<T>(table: string, page: readonly T[], show: (difference: T) => object): void {
    const { different, shown } = this.of(table);
    const more = page.slice(0, SHOWN - shown.length).map(show);
    this.#found.set(table, { different: different + page.length, shown: [...shown, ...more] });
  }

  of(table: string): { readonly different: number; readonly shown: object[] } {
    return this.#found.get(table) ?? { different: 0, shown: [] };
  }
}

async function countRebuilt(em: EntityManager, table: string): Promise<number> {
  const { rows } = await sql<{ n: string }>`select count(*) as n from ${sql.table(`pg_temp.${table}`)}`.execute(
    tablesOf(em),
  );
  return Number(rows[0]!.n);
}

/** For people, counts as text. */
function shownTotal({ keyId, live, rebuilt, proven }: KeyTotalDifference): object {
  const text = ({ lastUsedAt, ...total }: typeof rebuilt) => ({
    ...Object.fromEntries(Object.entries(total).map(([name, value]) => [name, String(value)])),
    lastUsedAt: lastUsedAt === null ? null : new Date(lastUsedAt).toISOString(),
  });
  return { keyId, live: live ? text(live) : null, rebuilt: text(rebuilt), proven };
}

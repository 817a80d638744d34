import type { EntityManager } from '@mikro-orm/postgresql';
import { Rejected } from '@sluice/contracts/errors';
import { snapshotPages } from '@sluice/event-store';
import { loggerFor } from '@sluice/service-kit';
import { tablesOf } from '../tables.js';
import { exportHead, exportRows, type ExportFormat } from './usage-export.js';
import type { UsageQuery } from './usage-query.js';
import { summedRow, usageSelect, type SelectedRow } from './usage-select.js';

/** Rows that are held at once. */
const PAGE_ROWS = 500;
/** For the first page, when PostgreSQL sums and sorts, and for each other one. */
const PAGE_MS = 30_000;
const READER_MS = 60_000;
/** For all of it: PostgreSQL keeps what changes meanwhile. */
const EXPORT_MS = 10 * 60_000;
/** Each has a connection of its own. */
const AT_ONCE = 6;
const AT_ONCE_OF_ONE = 2;

/** Usage of any size as text, in as much memory as a page takes, at the pace of whoever reads it. */
export class UsageExports {
  private readonly log = loggerFor('exports');
  /** How many each organization has under way. */
  private readonly running = new Map<string, number>();

  constructor(
    private readonly em: EntityManager,
    private readonly databaseUrl: string,
  ) {}

  /**
   * Comes back with the first page, or with why there is none.
   * @param gone the answer is over, whole or not: until then it takes a place and a connection
   * @throws Rejected `concurrency_limit_exceeded`, `unavailable` when too many are under way
   */
  async open(
    organizationId: string,
    query: UsageQuery,
    format: ExportFormat,
    gone: AbortSignal,
  ): Promise<AsyncIterable<string>> {
    gone.throwIfAborted();
    this.enter(organizationId);
    gone.addEventListener('abort', () => this.leave(organizationId), { once: true });
    const { sql, parameters } = usageSelect(organizationId, query).compile(tablesOf(this.em.fork()));
    const pages = snapshotPages<SelectedRow>(
      this.databaseUrl,
      { sql, parameters },
      {
        applicationName: 'sluice-metering-export',
        rows: PAGE_ROWS,
        pageMs: PAGE_MS,
        readerMs: READER_MS,
        signal: AbortSignal.any([gone, AbortSignal.timeout(EXPORT_MS)]),
      },
    );
    const first = await pages.next();
    const begin = exportHead(format, query) + (first.done ? '' : exportRows(format, first.value.map(summedRow)));
    return this.text(begin, pages, format, gone);
  }

  private async *text(
    begin: string,
    rest: AsyncIterable<SelectedRow[]>,
    format: ExportFormat,
    gone: AbortSignal,
  ): AsyncGenerator<string> {
    try {
      yield begin;
      for await (const page of rest) yield exportRows(format, page.map(summedRow));
    } catch (err) {
      if (!gone.aborted) this.log.error({ err }, 'an export was broken off');
      throw err;
    }
  }

  private enter(organizationId: string): void {
    const own = this.running.get(organizationId) ?? 0;
    if (own >= AT_ONCE_OF_ONE) {
      const sentence = `The organization has ${own} exports under way.`;
      throw new Rejected('concurrency_limit_exceeded', sentence, { retryAfter: 5 });
    }
    const all = Array.from(this.running.values()).reduce((sum, count) => sum + count, 0);
    if (all >= AT_ONCE) throw new Rejected('unavailable', 'Too many exports are under way.', { retryAfter: 5 });
    this.running.set(organizationId, own + 1);
  }

  private leave(organizationId: string): void {
    const left = this.running.get(organizationId)! - 1;
    if (left === 0) this.running.delete(organizationId);
    else this.running.set(organizationId, left);
  }
}

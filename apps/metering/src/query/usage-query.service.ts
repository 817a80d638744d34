import type { MikroORM } from '@mikro-orm/postgresql';
import type { OnApplicationShutdown } from '@nestjs/common';
import type { KeyUsage } from '@sluice/contracts/metering';
import { tablesOf } from '../tables.js';
import { cursorAfter, type UsageQuery } from './usage-query.js';
import { usageRow } from './usage-row.js';
import { summedRow, usageSelect } from './usage-select.js';

export class UsageQueryService implements OnApplicationShutdown {
  /** @param orm with connections of its own: customers ask as often as they like, and nothing waits with its booking for that */
  constructor(private readonly orm: MikroORM) {}

  async onApplicationShutdown(): Promise<void> {
    await this.orm.close(true);
  }

  /** One page in order of bucket and groups; `nextCursor` is null on the last one. */
  async page(organizationId: string, query: UsageQuery): Promise<KeyUsage> {
    const select = usageSelect(organizationId, query, query.limit + 1);
    const { rows } = await select.execute(tablesOf(this.orm.em.fork()));
    const page = rows.slice(0, query.limit).map(summedRow);
    const last = page.at(-1);
    return {
      data: page.map(usageRow),
      nextCursor: rows.length > query.limit && last ? cursorAfter(query, last) : null,
    };
  }
}

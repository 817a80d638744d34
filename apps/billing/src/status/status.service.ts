import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { PicoUsd } from '@sluice/primitives/money';
import { monthOf } from '../charges/charges.decider.js';
import { tablesOf } from '../tables.js';

@Injectable()
export class StatusService {
  constructor(private readonly em: EntityManager) {}

  /** What the organization can spend now; 0 for one that never had money. */
  async available(organizationId: string): Promise<PicoUsd> {
    const row = await tablesOf(this.em.fork())
      .selectFrom('ledger_accounts')
      .select('balance')
      .where('organization_id', '=', organizationId)
      .where('name', '=', 'available')
      .executeTakeFirst();
    return BigInt(row?.balance ?? 0);
  }

  /** Charged for requests that ended in the UTC month of this instant (ms since the Unix epoch). */
  async spentInMonth(organizationId: string, at: number): Promise<PicoUsd> {
    const row = await tablesOf(this.em.fork())
      .selectFrom('spend_by_month')
      .select('charged_pico')
      .where('organization_id', '=', organizationId)
      .where('month', '=', monthOf(at))
      .executeTakeFirst();
    return BigInt(row?.charged_pico ?? 0);
  }
}

import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import type { PicoUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';
import { monthOf } from '../charges/charges.decider.js';
import { CLOCK } from '../clock.js';
import { tablesOf } from '../tables.js';

@Injectable()
export class StatusService {
  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /**
   * What the organization can spend now, without what has expired and is still to be booked so; 0 for one that never had
   * money.
   */
  async available(organizationId: string): Promise<PicoUsd> {
    const { rows } = await sql<{ spendable: string }>`
      select balance - (
        select coalesce(sum(remaining), 0) from credit_lots
        where organization_id = ${organizationId} and open and expires_at <= ${rfc3339(this.clock.now())}::timestamptz
      ) as spendable
      from ledger_accounts where organization_id = ${organizationId} and name = 'available'
    `.execute(tablesOf(this.em.fork()));
    return BigInt(rows[0]?.spendable ?? 0);
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

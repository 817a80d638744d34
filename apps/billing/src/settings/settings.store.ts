import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import type { OutboxMessage } from '@sluice/event-store';
import type { Clock } from '@sluice/primitives/clock';
import { tellOfBalances } from '../balance/balance.store.js';
import { CLOCK } from '../clock.js';
import { lockAccounts } from '../ledger/ledger.store.js';
import { requireOrganizationKnown } from '../organizations/known.store.js';
import { methodOf } from '../payments/payments.store.js';
import { PAYMENTS, requireProvider, type PaymentProvider } from '../payments/provider.js';
import { readRecharge, writeRecharge } from '../payments/recharges.store.js';
import { tablesOf } from '../tables.js';
import type { Settings, SettingsChange } from './settings.js';

@Injectable()
export class SettingsStore {
  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(PAYMENTS) private readonly provider: PaymentProvider | null,
  ) {}

  async read(organizationId: string): Promise<Settings> {
    return settingsOf(this.em.fork(), organizationId);
  }

  /**
   * A threshold is changed under the lock that moves money: the change itself may be an edge, and no movement beside it
   * is judged by the old one. Messages are to be published after this.
   * @throws Rejected `not_found` for an organization that is not known here, `conflict` for automatic recharges with nothing
   *   to pay them with, `not_implemented` where there is no payment provider
   */
  async change(
    organizationId: string,
    change: SettingsChange,
    correlationId: string,
  ): Promise<{ settings: Settings; messages: readonly OutboxMessage[] }> {
    return this.em.fork().transactional(async (em) => {
      await requireOrganizationKnown(em, organizationId);
      const at = this.clock.now();
      const { before } = (await lockAccounts(em, [organizationId], at)).move(organizationId, 0n);
      const after = {
        ...before,
        lowBelow: change.lowBalanceThreshold === undefined ? before.lowBelow : change.lowBalanceThreshold,
      };
      await tablesOf(em)
        .updateTable('ledger_accounts')
        .set({ low_below: after.lowBelow === null ? null : String(after.lowBelow) })
        .where('organization_id', '=', organizationId)
        .where('name', '=', 'available')
        .execute();
      if (change.autoRecharge !== undefined) {
        if (change.autoRecharge?.enabled) await this.requireMethod(em, organizationId);
        await writeRecharge(em, organizationId, change.autoRecharge);
      }
      const messages = await tellOfBalances(em, [{ organizationId, before, after, at, correlationId }]);
      return { settings: await settingsOf(em, organizationId), messages };
    });
  }

  private async requireMethod(em: EntityManager, organizationId: string): Promise<void> {
    const { name } = requireProvider(this.provider);
    if (await methodOf(em, organizationId, name)) return;
    throw new Rejected('conflict', 'Nothing is saved to pay with: top up once with savePaymentMethod.', {
      param: 'autoRecharge',
    });
  }
}

async function settingsOf(em: EntityManager, organizationId: string): Promise<Settings> {
  const account = await tablesOf(em)
    .selectFrom('ledger_accounts')
    .select('low_below')
    .where('organization_id', '=', organizationId)
    .where('name', '=', 'available')
    .executeTakeFirst();
  return {
    lowBelow: account?.low_below == null ? null : BigInt(account.low_below),
    autoRecharge: await readRecharge(em, organizationId),
  };
}

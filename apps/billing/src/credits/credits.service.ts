import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { enqueue, type OutboxMessage } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { formatUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';
import { CLOCK } from '../clock.js';
import { append, lockAccounts } from '../ledger/ledger.store.js';
import { creditEntries, type LedgerTransaction } from '../ledger/ledger.js';
import { tablesOf } from '../tables.js';
import { creditGrantedMessage } from './credit.publisher.js';
import { creditHash, type GrantCredit } from './credit.js';

/** The answer to a grant; the same for every repetition. */
export interface GrantedCredit {
  readonly transactionId: string;
  readonly organizationId: string;
  readonly amount: string;
  readonly currency: 'USD';
  readonly reason: string;
  readonly createdAt: string;
}

@Injectable()
export class CreditsService {
  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /**
   * Books a grant once per idempotency key. Messages are to be published after this.
   * @throws Rejected `not_found` for an organization that is not known here, `conflict` for a key used for another grant
   */
  async grant(
    grant: GrantCredit,
    idempotencyKey: string,
    correlationId: string,
  ): Promise<{ credit: GrantedCredit; messages: readonly OutboxMessage[] }> {
    return this.em.fork().transactional(async (em) => {
      await requireOrganizationKnown(em, grant.organizationId);
      // The same key twice at the same time, maybe for two organizations: the second waits, then finds the first.
      await sql`select pg_advisory_xact_lock(hashtextextended(${`credit ${idempotencyKey}`}, 0))`.execute(tablesOf(em));
      const accounts = await lockAccounts(em, [grant.organizationId]);
      const transaction: LedgerTransaction = {
        id: systemId(),
        idempotencyKey: `credit:${idempotencyKey}`,
        payloadHash: creditHash(grant),
        kind: 'credit',
        organizationId: grant.organizationId,
        requestId: null,
        description: grant.reason,
        createdAt: this.clock.now(),
        entries: creditEntries(grant.amount),
      };
      const before = await tablesOf(em)
        .selectFrom('ledger_transactions')
        .select(['id', 'payload_hash', 'created_at'])
        .where('idempotency_key', '=', transaction.idempotencyKey)
        .executeTakeFirst();
      if (before && before.payload_hash !== transaction.payloadHash) {
        throw new Rejected('conflict', 'This Idempotency-Key was used for another grant.', {
          param: 'Idempotency-Key',
        });
      }
      if (before) return { credit: answer(grant, before.id, Date.parse(before.created_at)), messages: [] };
      await append(em, accounts, [transaction]);
      const messages = await enqueue(em, [creditGrantedMessage(transaction, grant.amount, correlationId)]);
      return { credit: answer(grant, transaction.id, transaction.createdAt), messages };
    });
  }
}

async function requireOrganizationKnown(em: EntityManager, organizationId: string): Promise<void> {
  const known = await tablesOf(em)
    .selectFrom('organizations')
    .select('organization_id')
    .where('organization_id', '=', organizationId)
    .executeTakeFirst();
  if (known) return;
  throw new Rejected(
    'not_found',
    'Billing does not know this organization. If it has just been created, try again in a moment with the same Idempotency-Key.',
    { param: 'organizationId', retryAfter: 1 },
  );
}

const answer = (grant: GrantCredit, transactionId: string, createdAt: number): GrantedCredit => ({
  transactionId,
  organizationId: grant.organizationId,
  amount: formatUsd(grant.amount),
  currency: 'USD',
  reason: grant.reason,
  createdAt: rfc3339(createdAt),
});

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
import type { LedgerTransaction } from '../ledger/ledger.js';
import { requireOrganizationKnown } from '../organizations/known.store.js';
import { tablesOf } from '../tables.js';
import { decideCredit } from './credit.decider.js';
import { creditGrantedMessage } from './credit.publisher.js';
import { creditHash, type CreditCommand } from './credit.js';

/** The answer to a command; the same for every repetition. */
export interface MovedCredit {
  readonly transactionId: string;
  readonly organizationId: string;
  readonly amount: string;
  readonly currency: 'USD';
  readonly reason: string;
  readonly createdAt: string;
  /** Of a grant. */
  readonly expiresAt?: string | null;
}

@Injectable()
export class CreditsService {
  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /**
   * Books a command once per idempotency key and kind. Messages are to be published after this.
   * @throws Rejected `not_found` for an organization that is not known here, `conflict` for a key used for another command,
   *   and what `decideCredit` refuses
   */
  async move(
    command: CreditCommand,
    idempotencyKey: string,
    correlationId: string,
  ): Promise<{ credit: MovedCredit; messages: readonly OutboxMessage[] }> {
    const { kind, organizationId } = command;
    return this.em.fork().transactional(async (em) => {
      await requireOrganizationKnown(em, organizationId);
      // The same key twice at the same time, maybe for two organizations: the second waits, then finds the first.
      await sql`select pg_advisory_xact_lock(hashtextextended(${`${kind} ${idempotencyKey}`}, 0))`.execute(
        tablesOf(em),
      );
      const now = this.clock.now();
      const accounts = await lockAccounts(em, [organizationId], now);
      const key = `${kind}:${idempotencyKey}`;
      const payloadHash = creditHash(command);
      const before = await tablesOf(em)
        .selectFrom('ledger_transactions')
        .select(['id', 'payload_hash', 'created_at'])
        .where('idempotency_key', '=', key)
        .executeTakeFirst();
      if (before && before.payload_hash !== payloadHash) {
        throw new Rejected('conflict', 'This Idempotency-Key was used for another command.', {
          param: 'Idempotency-Key',
        });
      }
      if (before) return { credit: answer(command, before.id, Date.parse(before.created_at)), messages: [] };
      const named = kind === 'refund' && command.transactionId !== undefined ? command.transactionId : '';
      const available = accounts.available.get(organizationId) ?? 0n;
      const transaction: LedgerTransaction = {
        id: systemId(),
        idempotencyKey: key,
        payloadHash,
        kind,
        organizationId,
        requestId: null,
        description: command.reason,
        createdAt: now,
        ...decideCredit(command, { available, lot: accounts.lots.get(named), now }),
      };
      await append(em, accounts, [transaction]);
      const told = kind === 'credit' ? [creditGrantedMessage(transaction, command.amount, correlationId)] : [];
      return { credit: answer(command, transaction.id, now), messages: await enqueue(em, told) };
    });
  }
}

const answer = (command: CreditCommand, transactionId: string, createdAt: number): MovedCredit => ({
  transactionId,
  organizationId: command.organizationId,
  amount: formatUsd(command.amount),
  currency: 'USD',
  reason: command.reason,
  createdAt: rfc3339(createdAt),
  ...(command.kind === 'credit' && {
    expiresAt: command.expiresAt === undefined ? null : rfc3339(command.expiresAt),
  }),
});

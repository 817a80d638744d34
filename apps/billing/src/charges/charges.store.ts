import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import type { UsageBatch } from '@sluice/contracts/gateway';
import { countedOf, oddityOf, settledOf, sourcesOf } from '@sluice/contracts/usage-claim';
import { replaced, setAside, settle, settledBelow, unnest, type UnnestColumns } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { sql } from 'kysely';
import { CLOCK } from '../clock.js';
import { spendByKey } from '../key-spend/key-spend.js';
import { addToKeySpend } from '../key-spend/key-spend.store.js';
import { usageEntries, type LedgerTransaction } from '../ledger/ledger.js';
import { append, lockAccounts } from '../ledger/ledger.store.js';
import { PricesStore } from '../prices/prices.store.js';
import { spendOfKeys } from '../statements/spend-by-key.js';
import { addToStatements } from '../statements/statements.store.js';
import { tablesOf } from '../tables.js';
import type { Charge } from './charge.js';
import { decideCharges, spendByMonth, type Booking, type ChargesDecision, type Spend } from './charges.decider.js';

@Injectable()
export class ChargesStore {
  constructor(
    private readonly em: EntityManager,
    private readonly prices: PricesStore,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /**
   * Charges batches in one transaction: claims, ledger, balances, spend of keys, quarantine, settled ranges. A batch that
   * comes again, whole or in other pieces, changes nothing. Statements per transaction, not per record. The organizations'
   * accounts are locked first, in one order; under these locks nobody else can charge the same requests.
   */
  async take(...batches: readonly UsageBatch[]): Promise<ChargesDecision> {
    const sources = sourcesOf(batches);
    return this.em.fork().transactional(async (em) => {
      const records = [...sources.keys()];
      const sound = records.filter((record) => oddityOf(record) === undefined);
      const now = this.clock.now();
      const accounts = await lockAccounts(
        em,
        sound.map(({ organizationId }) => organizationId),
        now,
      );
      const charges = await lockCharges(
        em,
        sound.map(({ requestId }) => requestId),
      );
      const prices = await this.prices.byVersion(
        em,
        sound.map(({ priceVersion }) => priceVersion),
      );
      const decision = decideCharges({ charges, prices, available: accounts.available }, records);
      const transactions = decision.bookings.map((booking) => transactionOf(booking, systemId(), now));
      await append(em, accounts, transactions);
      await writeCharges(em, charges, decision.bookings, transactions);
      await addSpend(em, spendByMonth(decision.bookings));
      await addToKeySpend(em, spendByKey(decision.bookings));
      await addToStatements(em, spendOfKeys(decision.bookings));
      await setAside(
        em,
        decision.quarantined.map(({ record, hash, reason }) => ({
          id: record.requestId,
          hash,
          reason,
          source: sources.get(record)!,
          content: record,
        })),
      );
      await settle(em, settledOf(batches));
      return decision;
    });
  }

  /** Every record of this boot with `seq` below it is charged or set aside here. */
  async settledBelow(boot: string): Promise<number> {
    return settledBelow(this.em.fork(), boot);
  }
}

function transactionOf({ before, charge }: Booking, id: string, createdAt: number): LedgerTransaction {
  const charged = charge.charged - (before?.charged ?? 0n);
  const absorbed = charge.absorbed - (before?.absorbed ?? 0n);
  return {
    id,
    idempotencyKey: `usage:${charge.requestId}:${charge.rank}${before?.rank === charge.rank ? `:${charge.counted}` : ''}`,
    payloadHash: charge.hash,
    kind: before ? 'usage_correction' : 'usage',
    organizationId: charge.organizationId,
    requestId: charge.requestId,
    description: null,
    createdAt,
    entries: usageEntries(charged, absorbed),
  };
}

async function lockCharges(em: EntityManager, requestIds: readonly string[]): Promise<Map<string, Charge>> {
  const { rows } = await sql<
    Record<string, string> & { rank: number; project: string | null; workload: string | null }
  >`
    select request_id, rank, hash, organization_id, key_id, project, workload, model, price_version, input_tokens, cached_input_tokens,
      output_tokens, audio_ms, cost_pico, charged_pico, absorbed_pico, (extract(epoch from ended_at) * 1000)::bigint as ended_ms
    from charges where request_id = any(${requestIds}::text[]) order by request_id for update
  `.execute(tablesOf(em));
  return new Map(
    rows.map((row) => {
      const taken = {
        input: BigInt(row['input_tokens']!),
        cachedInput: BigInt(row['cached_input_tokens']!),
        output: BigInt(row['output_tokens']!),
        audioMs: BigInt(row['audio_ms']!),
      };
      const charge: Charge = {
        requestId: row['request_id']!,
        rank: row.rank,
        hash: row['hash']!,
        counted: countedOf(taken),
        organizationId: row['organization_id']!,
        keyId: row['key_id']!,
        project: row.project,
        workload: row.workload,
        model: row['model']!,
        priceVersion: row['price_version']!,
        taken,
        endedAt: Number(row['ended_ms']),
        cost: BigInt(row['cost_pico']!),
        charged: BigInt(row['charged_pico']!),
        absorbed: BigInt(row['absorbed_pico']!),
      };
      return [charge.requestId, charge];
    }),
  );
}

interface ChargeRow {
  readonly charge: Charge;
  /** The last transaction that moved money for this request; null = none of this batch. */
  readonly transactionId: string | null;
}

const CHARGE_COLUMNS: UnnestColumns<ChargeRow> = {
  request_id: ['text', ({ charge }) => charge.requestId],
  rank: ['smallint', ({ charge }) => charge.rank],
  hash: ['text', ({ charge }) => charge.hash],
  organization_id: ['text', ({ charge }) => charge.organizationId],
  key_id: ['text', ({ charge }) => charge.keyId],
  project: ['text', ({ charge }) => charge.project],
  workload: ['text', ({ charge }) => charge.workload],
  model: ['text', ({ charge }) => charge.model],
  price_version: ['text', ({ charge }) => charge.priceVersion],
  input_tokens: ['bigint', ({ charge }) => charge.taken.input],
  cached_input_tokens: ['bigint', ({ charge }) => charge.taken.cachedInput],
  output_tokens: ['bigint', ({ charge }) => charge.taken.output],
  audio_ms: ['bigint', ({ charge }) => charge.taken.audioMs ?? 0n],
  cost_pico: ['numeric', ({ charge }) => charge.cost],
  charged_pico: ['numeric', ({ charge }) => charge.charged],
  absorbed_pico: ['numeric', ({ charge }) => charge.absorbed],
  transaction_id: ['uuid', ({ transactionId }) => transactionId],
  ended_at: ['timestamptz', ({ charge }) => rfc3339(charge.endedAt)],
};
const REPLACED = Object.keys(CHARGE_COLUMNS).filter((column) => column !== 'transaction_id');

async function writeCharges(
  em: EntityManager,
  locked: ReadonlyMap<string, Charge>,
  bookings: readonly Booking[],
  transactions: readonly LedgerTransaction[],
): Promise<void> {
  const last = new Map<string, ChargeRow>();
  bookings.forEach(({ charge }, i) => {
    const transaction = transactions[i]!;
    const moved = transaction.entries.length > 0 ? transaction.id : undefined;
    last.set(charge.requestId, { charge, transactionId: moved ?? last.get(charge.requestId)?.transactionId ?? null });
  });
  const fresh = [...last.values()].filter(({ charge }) => !locked.has(charge.requestId));
  const better = [...last.values()].filter(({ charge }) => locked.has(charge.requestId));
  if (fresh.length > 0) {
    // No "on conflict": a request id that somebody claims for another organization at this moment fails here, rolls all
    // back, and the message comes again, when the claim can be seen.
    const { names, rows } = unnest(fresh, CHARGE_COLUMNS);
    await sql`insert into charges (${names}) ${rows}`.execute(tablesOf(em));
  }
  if (better.length > 0) {
    const { names, rows } = unnest(better, CHARGE_COLUMNS);
    await sql`
      insert into charges as c (${names}) ${rows} on conflict (request_id) do update set ${replaced(REPLACED)},
        transaction_id = coalesce(excluded.transaction_id, c.transaction_id), recorded_at = now()
    `.execute(tablesOf(em));
  }
}

async function addSpend(em: EntityManager, spend: readonly Spend[]): Promise<void> {
  if (spend.length === 0) return;
  const { names, rows } = unnest(spend, {
    organization_id: ['text', (s) => s.organizationId],
    month: ['date', (s) => s.month],
    charged_pico: ['numeric', (s) => s.charged],
  });
  await sql`
    insert into spend_by_month as t (${names}) ${rows}
    on conflict (organization_id, month) do update set charged_pico = t.charged_pico + excluded.charged_pico
  `.execute(tablesOf(em));
}

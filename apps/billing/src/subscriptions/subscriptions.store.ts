import type { EntityManager } from '@mikro-orm/postgresql';
import { Rejected } from '@sluice/contracts/errors';
import { enqueue, replaced, unnest, type OutboxMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { sql } from 'kysely';
import { append, type LockedAccounts } from '../ledger/ledger.store.js';
import { subscriptionEntries, type LedgerTransaction } from '../ledger/ledger.js';
import { tablesOf } from '../tables.js';
import { dueAt, goodUntil, periodOf, priceOf, type Step, type SubscriptionState } from './subscription.js';
import { subscriptionMessage } from './subscription.publisher.js';

const COLUMNS = [
  'subscription_id',
  'organization_id',
  'pool_id',
  'blocks',
  'hours',
  'price_per_block_hour',
  'status',
  'auto_renew',
  'anchor_at',
  'anchor_period',
  'period',
  'paid_through',
  'retry_at',
  'good_until',
  'due_at',
  'version',
];

/** Subscriptions with the name and the models of their pool. */
export const subscriptionRows = (em: EntityManager) =>
  tablesOf(em)
    .selectFrom('subscriptions as s')
    .innerJoin('pools as p', 'p.pool_id', 's.pool_id')
    .selectAll('s')
    .select(['p.name as pool_name', 'p.models as pool_models']);

type Row = Awaited<ReturnType<ReturnType<typeof subscriptionRows>['execute']>>[number];

export const subscriptionOf = (row: Row): SubscriptionState => ({
  id: row.subscription_id,
  organizationId: row.organization_id,
  pool: { id: row.pool_id, name: row.pool_name, models: row.pool_models },
  blocks: row.blocks,
  hours: row.hours,
  pricePerBlockHour: BigInt(row.price_per_block_hour),
  status: row.status,
  autoRenew: row.auto_renew,
  anchorAt: Date.parse(row.anchor_at),
  anchorPeriod: row.anchor_period,
  period: row.period,
  paidThrough: row.paid_through,
  retryAt: row.retry_at === null ? null : Date.parse(row.retry_at),
  version: row.version,
});

/**
 * Writes what was decided about a subscription, all of it or nothing: what is paid, its new state, its seats, and what
 * others hear. The accounts of its organization are locked, and its pool where seats are taken anew.
 * @throws Rejected `conflict` where a seat is missing
 */
export async function write(
  em: EntityManager,
  accounts: LockedAccounts,
  before: SubscriptionState | undefined,
  steps: readonly Step[],
  { now, correlationId }: { now: number; correlationId: string },
): Promise<readonly OutboxMessage[]> {
  const state = steps.at(-1)?.state;
  if (state === undefined) return [];
  await save(em, state);
  await pay(em, accounts, steps, now);
  if (before?.anchorAt === state.anchorAt) await keepSeats(em, state);
  else await takeSeats(em, state);
  const told = steps.flatMap((step) => (step.event === null ? [] : [{ event: step.event, state: step.state }]));
  return enqueue(
    em,
    told.map((one) => subscriptionMessage(one.event, one.state, { id: systemId(), now, correlationId })),
  );
}

async function save(em: EntityManager, state: SubscriptionState): Promise<void> {
  const due = dueAt(state);
  const values = sql.join([
    sql`${state.id}::uuid`,
    state.organizationId,
    sql`${state.pool.id}::uuid`,
    sql`${[...state.blocks]}::text[]`,
    sql`${[...state.hours]}::integer[]`,
    sql`${String(state.pricePerBlockHour)}::numeric`,
    state.status,
    state.autoRenew,
    rfc3339(state.anchorAt),
    state.anchorPeriod,
    state.period,
    state.paidThrough,
    state.retryAt === null ? null : rfc3339(state.retryAt),
    rfc3339(goodUntil(state)),
    due === null ? null : rfc3339(due),
    state.version,
  ]);
  await sql`
    insert into subscriptions (${sql.join(COLUMNS.map((name) => sql.ref(name)))}) values (${values})
    on conflict (subscription_id) do update set ${replaced(COLUMNS)}
  `.execute(tablesOf(em));
}

/** One transaction for each period: its key is the period's own. */
async function pay(em: EntityManager, accounts: LockedAccounts, steps: readonly Step[], now: number): Promise<void> {
  const paid = steps.flatMap(({ state, pays }) =>
    pays.map((number) => {
      const price = priceOf(state, number);
      const key = `subscription:${state.id}:${number}`;
      const transaction: LedgerTransaction = {
        id: systemId(),
        idempotencyKey: key,
        payloadHash: String(price),
        kind: 'subscription',
        organizationId: state.organizationId,
        requestId: null,
        description: `${state.pool.name}: ${state.blocks.join(', ')}; period ${number}`,
        createdAt: now,
        entries: subscriptionEntries(price),
      };
      return { id: state.id, number, price, transaction, period: periodOf(state, number) };
    }),
  );
  if (paid.length === 0) return;
  await append(
    em,
    accounts,
    paid.map(({ transaction }) => transaction),
  );
  const { names, rows } = unnest(paid, {
    subscription_id: ['uuid', ({ id }) => id],
    period: ['integer', ({ number }) => number],
    during: ['tstzrange', ({ period }) => range(period.start, period.end)],
    price: ['numeric', ({ price }) => price],
    transaction_id: ['uuid', ({ transaction }) => transaction.id],
  });
  await sql`insert into subscription_periods (${names}) ${rows}`.execute(tablesOf(em));
}

const range = (from: number, to: number): string => `[${rfc3339(from)},${rfc3339(to)})`;

/** The seats it has had since its anchor, for as long as it is good now. Others reserve from now on, so nobody stands behind it. */
async function keepSeats(em: EntityManager, state: SubscriptionState): Promise<void> {
  const during = range(state.anchorAt, goodUntil(state));
  await sql`
    update reserved_seats set during = ${during}::tstzrange
    where subscription_id = ${state.id}::uuid and lower(during) = ${rfc3339(state.anchorAt)}::timestamptz
      and during <> ${during}::tstzrange
  `.execute(tablesOf(em));
}

/** The first free seat of each hour. */
async function takeSeats(em: EntityManager, state: SubscriptionState): Promise<void> {
  const during = range(state.anchorAt, goodUntil(state));
  const { rows } = await sql<{ hour: number }>`
    insert into reserved_seats (subscription_id, pool_id, hour, seat, during)
    select distinct on (s.hour) ${state.id}::uuid, s.pool_id, s.hour, s.seat, ${during}::tstzrange
    from pool_seats s
    where s.pool_id = ${state.pool.id}::uuid and s.hour = any(${[...state.hours]}::integer[])
      and not exists (
        select from reserved_seats r
        where r.pool_id = s.pool_id and r.hour = s.hour and r.seat = s.seat and r.during && ${during}::tstzrange
      )
    order by s.hour, s.seat
    returning hour
  `.execute(tablesOf(em));
  const taken = new Set(rows.map(({ hour }) => hour));
  const full = state.hours.filter((hour) => !taken.has(hour));
  if (full.length === 0) return;
  throw new Rejected('conflict', `The pool has no free seat in the UTC hours ${full.join(', ')}.`, { param: 'blocks' });
}

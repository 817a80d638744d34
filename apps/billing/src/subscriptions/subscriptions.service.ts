import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import type { OutboxMessage } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import type { PicoUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';
import { CLOCK } from '../clock.js';
import { lockAccounts } from '../ledger/ledger.store.js';
import { hoursOf } from '../pools/pool.js';
import { lockPool } from '../pools/pools.store.js';
import { tablesOf } from '../tables.js';
import type { Subscribe } from './subscription-requests.js';
import { requestHash } from './subscription-requests.js';
import { cancel, catchUp, renew, start, type Renewal } from './subscription.decider.js';
import { goodUntil, type Step, type SubscriptionState } from './subscription.js';
import { subscriptionOf, subscriptionRows, write } from './subscriptions.store.js';

/** Who asks, and how a repetition is recognised. */
export interface By {
  readonly organizationId: string;
  readonly correlationId: string;
}

export interface Changed {
  readonly subscription: SubscriptionState;
  /** To be published after this. */
  readonly messages: readonly OutboxMessage[];
}

type Decide = (before: SubscriptionState, now: number, available: PicoUsd) => readonly Step[];

/**
 * Reserves hours of pools, and pays for them. Everything about an organization's subscriptions is decided under the locks
 * of its accounts; the pool is locked behind them, and only where seats are taken.
 */
@Injectable()
export class SubscriptionsService {
  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /**
   * Seats, payment and the first period in one transaction, once for each idempotency key.
   * @throws Rejected `not_found` no such pool · `invalid_request` no such block · `insufficient_credit` · `conflict` no free
   * seat, or the key was used for something else
   */
  async subscribe(poolId: string, wanted: Subscribe, key: string, by: By): Promise<Changed> {
    const hash = requestHash('subscribe', poolId, wanted.blocks, wanted.periods, wanted.autoRenew);
    return this.em.fork().transactional(async (em) => {
      const now = this.clock.now();
      const accounts = await lockAccounts(em, [by.organizationId], now);
      const before = await this.repeated(em, by.organizationId, key, hash);
      if (before) return { subscription: before, messages: [] };
      const pool = await lockPool(em, poolId);
      if (!pool) throw new Rejected('not_found', 'There is no such pool.');
      const hours = hoursOf(pool, wanted.blocks);
      if (!hours) throw new Rejected('invalid_request', 'The pool has no such block.', { param: 'blocks' });
      const made = {
        id: systemId(),
        organizationId: by.organizationId,
        pool,
        blocks: [...new Set(wanted.blocks)],
        hours,
        pricePerBlockHour: pool.pricePerBlockHour,
        autoRenew: wanted.autoRenew,
      };
      const steps = start(made, wanted.periods, now, accounts.available.get(by.organizationId)!);
      const messages = await write(em, accounts, undefined, steps, { now, correlationId: by.correlationId });
      await remember(em, by.organizationId, key, hash, made.id);
      return { subscription: steps[0]!.state, messages };
    });
  }

  /** Once for each idempotency key. @throws Rejected `not_found`, `insufficient_credit`, `conflict` */
  async renew(id: string, renewal: Renewal, key: string, by: By): Promise<Changed> {
    const hash = requestHash('renew', id, renewal.periods, renewal.autoRenew ?? null);
    return this.decide(id, by, (before, now, available) => renew(before, renewal, now, available), { key, hash });
  }

  /** Cancelling again changes nothing. @throws Rejected `not_found`, `conflict` where it has ended */
  async cancel(id: string, by: By): Promise<Changed> {
    return this.decide(id, by, cancel);
  }

  /** What is due by now; nothing where somebody else has done it already. */
  async catchUp(id: string, by: By): Promise<Changed> {
    return this.decide(id, by, catchUp);
  }

  /** Ids with their organizations, the one that has been due for longest first; those behind `after` only. */
  async due(limit: number, after?: { readonly dueAt: string; readonly id: string }) {
    let query = tablesOf(this.em.fork())
      .selectFrom('subscriptions')
      .select(['subscription_id as id', 'organization_id as organizationId', 'due_at as dueAt'])
      .where('due_at', '<=', rfc3339(this.clock.now()))
      .orderBy('due_at')
      .orderBy('subscription_id');
    if (after) query = query.where(sql<boolean>`(due_at, subscription_id) > (${after.dueAt}, ${after.id}::uuid)`);
    return query.limit(limit).execute();
  }

  private async decide(
    id: string,
    by: By,
    decision: Decide,
    once?: { readonly key: string; readonly hash: string },
  ): Promise<Changed> {
    return this.em.fork().transactional(async (em) => {
      const now = this.clock.now();
      const accounts = await lockAccounts(em, [by.organizationId], now);
      const repeated = once && (await this.repeated(em, by.organizationId, once.key, once.hash));
      if (repeated) return { subscription: repeated, messages: [] };
      const before = await found(em, by.organizationId, id);
      const steps = decision(before, now, accounts.available.get(by.organizationId)!);
      const subscription = steps.at(-1)?.state ?? before;
      if (subscription.anchorAt !== before.anchorAt) await lockPool(em, before.pool.id);
      const messages = await write(em, accounts, before, steps, { now, correlationId: by.correlationId });
      if (once) await remember(em, by.organizationId, once.key, once.hash, id);
      return { subscription, messages };
    });
  }

  /** What this key made or changed before, as it is now. @throws Rejected `conflict` where it was something else */
  private async repeated(em: EntityManager, organizationId: string, key: string, hash: string) {
    const row = await tablesOf(em)
      .selectFrom('subscription_requests')
      .select(['payload_hash', 'subscription_id'])
      .where('organization_id', '=', organizationId)
      .where('idempotency_key', '=', key)
      .executeTakeFirst();
    if (!row) return undefined;
    if (row.payload_hash === hash) return found(em, organizationId, row.subscription_id);
    throw new Rejected('conflict', 'This Idempotency-Key was used for something else.', { param: 'Idempotency-Key' });
  }

  /** Newest first; `before` is the id of the last one of the page before. */
  async page(organizationId: string, limit: number, before: string | undefined) {
    let query = subscriptionRows(this.em.fork()).where('organization_id', '=', organizationId);
    if (before !== undefined) query = query.where('subscription_id', '<', before);
    const rows = await query
      .orderBy('subscription_id', 'desc')
      .limit(limit + 1)
      .execute();
    const subscriptions = rows.slice(0, limit).map(subscriptionOf);
    return { subscriptions, nextCursor: rows.length > limit ? (subscriptions.at(-1)?.id ?? null) : null };
  }

  /** Those that have not ended by now, the one that began last first. */
  async running(organizationId: string): Promise<readonly SubscriptionState[]> {
    const now = this.clock.now();
    const rows = await subscriptionRows(this.em.fork())
      .where('organization_id', '=', organizationId)
      .where('status', '!=', 'ended')
      .orderBy('anchor_at', 'desc')
      .execute();
    return rows.map(subscriptionOf).filter((subscription) => goodUntil(subscription) > now);
  }

  /** @throws Rejected `not_found` */
  async get(organizationId: string, id: string): Promise<SubscriptionState> {
    return found(this.em.fork(), organizationId, id);
  }
}

async function found(em: EntityManager, organizationId: string, id: string): Promise<SubscriptionState> {
  const row = await subscriptionRows(em)
    .where('subscription_id', '=', id)
    .where('organization_id', '=', organizationId)
    .executeTakeFirst();
  if (!row) throw new Rejected('not_found', 'There is no such subscription.');
  return subscriptionOf(row);
}

async function remember(em: EntityManager, organizationId: string, key: string, hash: string, id: string) {
  await tablesOf(em)
    .insertInto('subscription_requests')
    .values({ organization_id: organizationId, idempotency_key: key, payload_hash: hash, subscription_id: id })
    .execute();
}

import { MikroORM, type EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import { systemClock } from '@sluice/primitives/clock';
import { InForceService } from '../gateways/in-force.service.js';
import { usageOf } from '../key-usage/key-usage.store.js';
import { memberTables } from '../members/tables.js';
import { subscriptionsOf } from '../subscriptions/subscriptions.store.js';
import { notDeleted } from './key-addressing.js';
import type { KeyContext } from './key-answers.js';
import type { Key } from './key.entity.js';

/** Keys as answers show them: with what they used and spent, and who made them, all of it from this database. */
@Injectable()
export class KeyViews {
  constructor(
    private readonly orm: MikroORM,
    private readonly reached: InForceService,
  ) {}

  async all<T>(keys: readonly Key[], shape: (key: Key, context: KeyContext) => T): Promise<T[]> {
    const em = this.orm.em.fork();
    const uses = await usageOf(
      em,
      keys.map(({ keyId }) => keyId),
    );
    const subscriptions = await subscriptionsOf(
      em,
      keys.flatMap(({ subscriptionId }) => subscriptionId ?? []),
    );
    const removed = await removedAmong(em, keys);
    const now = systemClock.now();
    return keys.map((key) =>
      shape(key, {
        now,
        use: uses.get(key.keyId),
        subscription: subscriptions.get(key.subscriptionId ?? ''),
        makerRemoved: removed.has(key.createdByMember ?? ''),
      }),
    );
  }

  async one<T>(key: Key, shape: (key: Key, context: KeyContext) => T): Promise<T> {
    const [answer] = await this.all([key], shape);
    return answer!;
  }

  /**
   * What a GET tells: the key, and how far the last thing that was taken from it is in force while that is worth telling.
   * A deleted key is told of only as long as that is so. @throws Rejected `not_found`
   */
  async found<T extends object>(key: Key, shape: (key: Key, context: KeyContext) => T) {
    const inForce = await this.reached.statusOf(key.keyId);
    if (inForce === undefined) return { key: await this.one(notDeleted(key), shape), inForce };
    return key.status === 'deleted' ? { key: undefined, inForce } : { key: await this.one(key, shape), inForce };
  }
}

/** The makers of these keys that are no members any more. */
async function removedAmong(em: EntityManager, keys: readonly Key[]): Promise<ReadonlySet<string>> {
  const makers = [...new Set(keys.flatMap(({ createdByMember }) => createdByMember ?? []))];
  if (makers.length === 0) return new Set();
  const rows = await memberTables(em)
    .selectFrom('members')
    .select('member_id')
    .where('member_id', 'in', makers)
    .where('status', '=', 'removed')
    .execute();
  return new Set(rows.map(({ member_id }) => member_id));
}

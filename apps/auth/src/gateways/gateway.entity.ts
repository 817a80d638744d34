import { defineEntity, p, type InferEntity } from '@mikro-orm/core';

/** Gateway processes that a revoke has to reach. A boot id is never used again: its row stays when it is retired. */
export const GatewayRow = defineEntity({
  name: 'GatewayRow',
  tableName: 'gateways',
  properties: {
    boot: p.text().primary(),
    url: p.text(),
    registeredAt: p.datetime(),
    /** To the second, by the database's clock. */
    lastLookupAt: p.datetime(),
    /** From here on its look-ups are refused, and a revoke still waits for it. */
    retiringAt: p.datetime().nullable(),
    /** From here on no revoke counts it. */
    retiredAt: p.datetime().nullable(),
  },
});
export type Gateway = InferEntity<typeof GatewayRow>;

/** What a revoke that is not in force yet has to reach, and when it was reached (`at`, kept for a day). */
export const PendingRow = defineEntity({
  name: 'PendingRow',
  tableName: 'pending_in_force',
  properties: {
    id: p.text().primary(),
    version: p.integer(),
    inflight: p.text().$type<'cut' | 'drain'>(),
    since: p.datetime(),
    /** The invalidation's row in the outbox: while it is there, the broker has not acknowledged it. */
    message: p.bigint('string').nullable(),
    /** One replica looks after it until then. */
    takenUntil: p.datetime(),
    confirmed: p.integer().nullable(),
    of: p.integer().nullable(),
    ms: p.integer().nullable(),
    at: p.datetime().nullable(),
  },
});
export type Pending = InferEntity<typeof PendingRow>;

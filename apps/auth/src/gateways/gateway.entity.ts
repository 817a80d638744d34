import { defineEntity, p, type InferEntity } from '@mikro-orm/core';

/** Gateway processes that a revoke has to reach. A boot id is never used again: its row stays when it is retired. */
export const GatewayRow = defineEntity({
  name: 'GatewayRow',
  tableName: 'gateways',
  properties: {
    boot: p.text().primary(),
    url: p.text(),
    registeredAt: p.datetime(),
    lastLookupAt: p.datetime(),
    retiredAt: p.datetime().nullable(),
  },
});
export type Gateway = InferEntity<typeof GatewayRow>;

import { defineEntity, p, type InferEntity } from '@mikro-orm/core';
import type { Scope } from '@sluice/contracts/auth';

/** The read model of keys: what look-ups and lists are answered from. */
export const KeyRow = defineEntity({
  name: 'KeyRow',
  tableName: 'api_keys',
  properties: {
    keyId: p.text().primary(),
    organizationId: p.text().nullable(),
    project: p.text().nullable(),
    kind: p.text(),
    name: p.text(),
    description: p.text().nullable(),
    tags: p.json<string[]>(),
    digest: p.text(),
    keyPrefix: p.text(),
    scopes: p.json<Scope[]>(),
    access: p.json<string[]>(),
    models: p.json<string[]>().nullable(),
    expiresAt: p.datetime().nullable(),
    rpm: p.integer().nullable(),
    status: p.text(),
    version: p.integer(),
    issuedAt: p.datetime(),
    revokedAt: p.datetime().nullable(),
    revokeReason: p.text().nullable(),
  },
});
export type Key = InferEntity<typeof KeyRow>;

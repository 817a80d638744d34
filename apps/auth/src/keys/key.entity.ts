import { defineEntity, p, type InferEntity } from '@mikro-orm/core';
import type { Scope } from '@sluice/contracts/auth';
import type { IssuedKey, KeyKind, KeyStatus } from './key.js';

/** The read model of keys: what look-ups and lists are answered from. A deleted key stays, and is in no list. */
export const KeyRow = defineEntity({
  name: 'KeyRow',
  tableName: 'api_keys',
  properties: {
    keyId: p.text().primary(),
    organizationId: p.text().nullable(),
    project: p.text().nullable(),
    kind: p.text().$type<KeyKind>(),
    name: p.text(),
    description: p.text().nullable(),
    tags: p.json<string[]>(),
    /** Of the current secret. */
    keyPrefix: p.text(),
    previousKeyPrefix: p.text().nullable(),
    previousUntil: p.datetime().nullable(),
    /** The last date (UTC) of which a use of the previous secret is recorded. */
    previousUsedOn: p.date().nullable(),
    scopes: p.json<Scope[]>(),
    access: p.json<string[]>(),
    models: p.json<string[]>().nullable(),
    ipAllow: p.json<string[]>().nullable(),
    expiresAt: p.datetime().nullable(),
    /** The last warning before `expiresAt`, in days. */
    warnedDays: p.integer().nullable(),
    rpm: p.integer().nullable(),
    tpm: p.integer().nullable(),
    concurrency: p.integer().nullable(),
    priority: p.integer().nullable(),
    /** Pico-USD. */
    maxBudget: p.decimal('string').nullable(),
    budgetReset: p.text().$type<NonNullable<IssuedKey['budgetReset']>>().nullable(),
    subscriptionId: p.text().nullable(),
    createdByMember: p.text().nullable(),
    createdByKey: p.text().nullable(),
    status: p.text().$type<KeyStatus>(),
    /** By its organization; beside `status`, which says what is true when that is over. */
    suspended: p.boolean(),
    version: p.integer(),
    issuedAt: p.datetime(),
    revokedAt: p.datetime().nullable(),
  },
});
export type Key = InferEntity<typeof KeyRow>;

/** The secrets of keys, by digest: the current one (`until` null) and at most one in its grace. */
export const KeySecretRow = defineEntity({
  name: 'KeySecretRow',
  tableName: 'key_secrets',
  properties: {
    digest: p.text().primary(),
    keyId: p.text(),
    until: p.datetime().nullable(),
  },
});
export type KeySecret = InferEntity<typeof KeySecretRow>;

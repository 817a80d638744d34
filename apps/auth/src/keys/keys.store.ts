import type { EntityManager } from '@mikro-orm/postgresql';
import type { Subscription } from '@sluice/contracts/billing';
import { Rejected } from '@sluice/contracts/errors';
import type { StoredEvent } from '@sluice/event-store';
import { sql } from 'kysely';
import type { KeyEvent, KeyKind } from './key.js';
import type { Limits } from '../organizations/limits.js';
import { KeyRow, KeySecretRow, type Key } from './key.entity.js';
import { projectKey, projectSecrets } from './key.projection.js';

/** Keeps the rows of keys and their secrets in step, in the transaction of the events. */
export async function projectKeys(em: EntityManager, events: readonly StoredEvent<KeyEvent>[]): Promise<void> {
  const byKey = Map.groupBy(events, ({ event }) => event.data.keyId);
  // Not the identity map's: a caller's transaction may have written these keys before.
  const found = await em.find(KeyRow, { keyId: { $in: [...byKey.keys()] } }, { disableIdentityMap: true });
  const before = new Map(found.map((row) => [row.keyId, { ...row }]));
  const after: Key[] = [];
  for (const [keyId, ofKey] of byKey) {
    let row = before.get(keyId);
    for (const { event, version } of ofKey) row = projectKey(row, event, version);
    if (row !== undefined) after.push(row);
  }
  const [one] = after;
  const old = one && before.get(one.keyId);
  if (after.length === 1 && old) await em.nativeUpdate(KeyRow, { keyId: old.keyId }, changedColumns(old, one));
  else await em.upsertMany(KeyRow, after);
  for (const { event } of events) await writeSecrets(em, event);
}

async function writeSecrets(em: EntityManager, event: KeyEvent): Promise<void> {
  const secrets = projectSecrets(event);
  if (secrets === undefined) return;
  if (event.type !== 'KeyIssued') await em.nativeDelete(KeySecretRow, { keyId: event.data.keyId });
  await em.insertMany(KeySecretRow, secrets);
}

const changedColumns = (before: Key, after: Key): Partial<Key> =>
  Object.fromEntries(Object.entries(after).filter(([column, value]) => before[column as keyof Key] !== value));

export interface Page {
  readonly limit: number;
  /** The last id of the page before. */
  readonly after?: string | undefined;
  /** Only keys with it. */
  readonly tag?: string | undefined;
}

/** Keys that are not deleted, by id: those of version 7 sort by time, the order of creation. */
export async function listKeys(
  em: EntityManager,
  organizationId: string | null,
  kinds: readonly KeyKind[],
  project: string | null,
  { limit, after, tag }: Page,
): Promise<Key[]> {
  const where = {
    organizationId,
    kind: { $in: [...kinds] },
    status: { $ne: 'deleted' as const },
    ...(project === null ? {} : { project }),
    ...(after === undefined ? {} : { keyId: { $gt: after } }),
    ...(tag === undefined ? {} : { tags: { $contains: [tag] } }),
  };
  return em.find(KeyRow, where, { orderBy: { keyId: 'asc' }, limit });
}

/** Also a deleted one: its deletion may have to be asked for again. @throws Rejected `not_found` */
export async function getKey(
  em: EntityManager,
  organizationId: string | null,
  keyId: string,
  kinds: readonly KeyKind[],
  project: string | null,
): Promise<Key> {
  const row = await em.findOne(KeyRow, { keyId, organizationId, kind: { $in: [...kinds] } });
  if (!row || (project !== null && row.project !== project)) throw new Rejected('not_found', 'There is no such key.');
  return row;
}

/** A key as one of its secrets names it, with what of its organization decides about it. */
export interface PresentedKey {
  readonly key: Key;
  /** The end of this secret's grace; null for the current one. */
  readonly until: Date | null;
  readonly organizationSuspended: boolean;
  /** See `organizationVersion` of a credential. */
  readonly organizationVersion: number;
  /** Null where there is no such organization, or project. */
  readonly organizationLimits: Limits | null;
  readonly projectLimits: Limits | null;
  /** Null for a key that is of none. */
  readonly subscription: Subscription | null;
}

/** One statement on five primary keys. */
export async function presentedKey(em: EntityManager, digest: string): Promise<PresentedKey | undefined> {
  const { rows } = await sql<Record<string, unknown>>`
    select k.*, s.until as secret_until, o.status as organization_status,
      greatest(o.status_version, o.limits_version) as organization_version,
      o.limits as organization_limits, p.limits as project_limits,
      b.said as subscription
    from key_secrets s join api_keys k on k.key_id = s.key_id
    left join organizations o on o.organization_id = k.organization_id
    left join projects p on p.organization_id = k.organization_id and p.project = k.project
    left join subscriptions b on b.subscription_id = k.subscription_id
    where s.digest = ${digest}
  `.execute(em.getKysely());
  const row = rows[0];
  if (!row) return undefined;
  const { secret_until: until, organization_status: status, organization_version: version, ...rest } = row;
  const { organization_limits: organizationLimits, project_limits: projectLimits, subscription, ...columns } = rest;
  const key = em.map(KeyRow, columns);
  return {
    key,
    until: until === null ? null : new Date(until as string),
    organizationSuspended: status === 'suspended',
    organizationVersion: key.organizationId === null ? 0 : ((version as number | null) ?? 1),
    organizationLimits: organizationLimits as Limits | null,
    projectLimits: projectLimits as Limits | null,
    subscription: subscription as Subscription | null,
  };
}

/** Keys whose end has come or whose next warning is due, the oldest first. @param now RFC 3339 */
export async function keysDue(em: EntityManager, now: string, limit: number): Promise<string[]> {
  const { rows } = await sql<{ key_id: string }>`
    select key_id from api_keys
    where status = 'active' and expires_at is not null and expires_at <= ${now}::timestamptz + interval '14 days'
      and (expires_at <= ${now}
        or (not suspended and (warned_days is null
          or (warned_days > 3 and expires_at <= ${now}::timestamptz + interval '3 days')
          or (warned_days > 1 and expires_at <= ${now}::timestamptz + interval '1 day'))))
    order by expires_at limit ${limit}
  `.execute(em.getKysely());
  return rows.map(({ key_id: keyId }) => keyId);
}

/** Of reported uses of previous secrets those that may not be recorded yet: most are told again and again. */
export async function unknownUses(
  em: EntityManager,
  uses: ReadonlyMap<string, { readonly previousUntil: string; readonly at: string }>,
): Promise<string[]> {
  const fields = ['keyId', 'previousUntil', 'previousUsedOn'] as const;
  const rows = await em.find(KeyRow, { keyId: { $in: [...uses.keys()] }, previousUntil: { $ne: null } }, { fields });
  return rows
    .filter(({ keyId, previousUntil, previousUsedOn }) => {
      const { previousUntil: until, at } = uses.get(keyId)!;
      return previousUntil?.toISOString() === until && (previousUsedOn ?? '') < at.slice(0, 'yyyy-mm-dd'.length);
    })
    .map(({ keyId }) => keyId);
}

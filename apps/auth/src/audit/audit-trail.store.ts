import { randomBytes } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { addressDigest, canonicalJson, type AuditEntry } from '@sluice/contracts/audit';
import type { StoredEvent } from '@sluice/event-store';
import { entryOf, memberOf, organizationOf, SYSTEM_ORGANIZATION } from './entry.js';
import { auditTables } from './tables.js';

const SALT_BYTES = 16;

export interface NewEntry {
  readonly organizationId: string;
  readonly entry: Omit<AuditEntry, 'addressDigest'>;
  readonly address: string | undefined;
  /** Whose address it is. */
  readonly memberId: string | null;
}

/** An inline projection of every event store of auth: one entry per event, in the event's transaction. */
export async function auditTrail(
  em: EntityManager,
  events: readonly StoredEvent<{ readonly type: string; readonly data: unknown }>[],
): Promise<void> {
  const entries = events.map((stored) => ({
    organizationId: organizationOf(stored),
    entry: entryOf(stored),
    address: stored.metadata.address,
    memberId: memberOf(stored),
  }));
  await appendEntries(
    em,
    entries.filter(({ organizationId }) => organizationId !== SYSTEM_ORGANIZATION),
  );
}

/** In the caller's transaction; they are chained when it commits (see the migration). */
export async function appendEntries(em: EntityManager, entries: readonly NewEntry[]): Promise<void> {
  if (entries.length === 0) return;
  const rows = entries.map(({ organizationId, entry, address, memberId }) => {
    const salt = address === undefined ? null : randomBytes(SALT_BYTES).toString('hex');
    const digest = salt === null ? null : addressDigest(salt, address!);
    return {
      organization_id: organizationId,
      entry: canonicalJson({ ...entry, addressDigest: digest }),
      member_id: memberId,
      salt,
      address: address ?? null,
    };
  });
  await auditTables(em).insertInto('audit_pending').values(rows).execute();
}

/**
 * Forgets the network addresses of a person, in the caller's transaction, also of what the person did in it so far. The
 * chain holds their salted digests and still verifies.
 */
export async function eraseAddresses(em: EntityManager, memberId: string): Promise<void> {
  const tables = auditTables(em);
  await tables.deleteFrom('audit_addresses').where('member_id', '=', memberId).execute();
  const nothing = { address: null, salt: null };
  await tables.updateTable('audit_pending').set(nothing).where('member_id', '=', memberId).execute();
}

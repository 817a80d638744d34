import { given, type KeyChanges, type KeyEvent, type KeySettings } from './key.js';
import type { Key, KeySecret } from './key.entity.js';

/** The row of a key after one more event, which is number `version` of its stream. */
export function projectKey(row: Key | undefined, event: KeyEvent, version: number): Key | undefined {
  if (event.type === 'KeyIssued') {
    const { issuedAt, createdBy, digest: _secret, expiresAt, ...issued } = event.data;
    return {
      ...issued,
      expiresAt: date(expiresAt),
      previousKeyPrefix: null,
      previousUntil: null,
      previousUsedOn: null,
      warnedDays: null,
      createdByMember: createdBy?.memberId ?? null,
      createdByKey: createdBy?.keyId ?? null,
      status: 'active',
      suspended: false,
      version,
      issuedAt: new Date(issuedAt),
      revokedAt: null,
    };
  }
  return row && { ...row, ...changed(event), version };
}

function changed(event: Exclude<KeyEvent, { type: 'KeyIssued' }>): Partial<Key> {
  switch (event.type) {
    case 'KeyUpdated':
      return settings(event.data.changes);
    case 'KeyRotated': {
      const { keyPrefix, previousKeyPrefix, previousUntil } = event.data;
      const previous = previousUntil === null ? null : previousKeyPrefix;
      return { keyPrefix, previousKeyPrefix: previous, previousUntil: date(previousUntil), previousUsedOn: null };
    }
    case 'KeyPreviousSecretUsed':
      return { previousUsedOn: event.data.day };
    case 'KeyRevoked':
      if (event.data.reason === 'organization_suspended') return { suspended: true };
      return { status: event.data.reason, revokedAt: new Date(event.data.revokedAt) };
    case 'KeyReactivated':
      return { status: 'active', revokedAt: null };
    case 'KeyExpiring':
      return { warnedDays: event.data.days };
    case 'KeySuspended':
      return { suspended: true };
    case 'KeyResumed':
      return { suspended: false };
    default:
      return {};
  }
}

function settings(update: KeyChanges): Partial<Key> {
  const { expiresAt, ...changes }: Partial<KeySettings> = given(update);
  return expiresAt === undefined ? changes : { ...changes, expiresAt: date(expiresAt), warnedDays: null };
}

/** The secrets of a key after an event, all of them; undefined when it changes none. */
export function projectSecrets(event: KeyEvent): KeySecret[] | undefined {
  const { keyId } = event.data;
  if (event.type === 'KeyIssued') return [{ digest: event.data.digest, keyId, until: null }];
  if (event.type !== 'KeyRotated') return undefined;
  const { digest, previousDigest, previousUntil } = event.data;
  const current = { digest, keyId, until: null };
  return previousUntil === null
    ? [current]
    : [current, { digest: previousDigest, keyId, until: new Date(previousUntil) }];
}

const date = (time: string | null): Date | null => (time === null ? null : new Date(time));

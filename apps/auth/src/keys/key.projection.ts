import type { KeyEvent } from './key.js';
import type { Key } from './key.entity.js';

/** The row of a key after one more event, which is number `version` of its stream. */
export function projectKey(row: Key | undefined, event: KeyEvent, version: number): Key | undefined {
  switch (event.type) {
    case 'KeyIssued': {
      const { issuedAt, expiresAt, ...issued } = event.data;
      return {
        ...issued,
        expiresAt: expiresAt === null ? null : new Date(expiresAt),
        issuedAt: new Date(issuedAt),
        status: 'active',
        version,
        revokedAt: null,
        revokeReason: null,
      };
    }
    case 'KeyRevoked':
      if (!row) return row;
      return {
        ...row,
        status: 'revoked',
        version,
        revokedAt: new Date(event.data.revokedAt),
        revokeReason: event.data.reason,
      };
    default:
      return row;
  }
}

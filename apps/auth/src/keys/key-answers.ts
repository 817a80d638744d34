import { maskedSecret } from '@sluice/primitives/secret';
import type { Key } from './key.entity.js';
import type { IssuedSecret } from './keys.service.js';

const EXPIRES_SOON_MS = 14 * 24 * 60 * 60 * 1000;

/** The secret of a new key in `apiKey`, this once; on a repetition it is masked. */
export const secretOnce = ({ key, secret }: IssuedSecret) => ({
  id: key.keyId,
  keyPrefix: key.keyPrefix,
  apiKey: secret ?? maskedSecret(key.keyPrefix),
  ...(secret === undefined ? { secretReturned: false } : {}),
});

/** A new key as its creator sees it. */
export const created = (issued: IssuedSecret, keyType: 'credit' | 'management') => ({
  ...secretOnce(issued),
  name: issued.key.name,
  ...(keyType === 'credit' ? { keyType } : {}),
  isActive: true,
  createdAt: issued.key.issuedAt,
});

/** A key in a list. What other services know of it (spend, usage) is not there yet and left out. */
export function listed(key: Key, now: number) {
  return {
    id: key.keyId,
    name: key.name,
    description: key.description ?? null,
    tags: key.tags,
    keyPlan: 'credits',
    keyType: 'credit',
    apiKey: maskedSecret(key.keyPrefix),
    keyPrefix: key.keyPrefix,
    isActive: key.status === 'active',
    status: key.status,
    scopes: key.scopes,
    access: key.access,
    models: key.models ?? null,
    rpmLimit: key.rpm ?? null,
    createdAt: key.issuedAt.toISOString(),
    expiresAt: key.expiresAt?.toISOString() ?? null,
    expiresSoon: key.expiresAt ? key.expiresAt.getTime() - now < EXPIRES_SOON_MS : false,
  };
}

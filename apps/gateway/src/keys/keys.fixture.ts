import { createHash } from 'node:crypto';
import type { Credential } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { DEFAULT_PREFIXES, formatSecret, type CredentialKind } from '@sluice/primitives/secret';
import type { ServiceCall, ServiceClient } from '@sluice/service-kit';
import { KeyProjection } from './key-projection.js';
import { Keys } from './keys.service.js';
import type { Membership } from './membership.service.js';

const digestOf = (secret: string) => createHash('sha256').update(secret).digest('base64url');

/** Keys with an auth that knows what it is given; revoke by taking it out and telling `keys`. */
export function keysWithAuth() {
  const known = new Map<string, Credential>();
  const auth = {
    ask: async ({ body }: ServiceCall) => {
      const credential = known.get((body as { digest: string }).digest);
      if (!credential) throw new Rejected('invalid_api_key');
      return { credential };
    },
  } as unknown as ServiceClient;
  const membership = { boot: async () => 'b1', whenRenewed: () => {}, renew: () => {} } as unknown as Membership;
  let made = 0;
  return {
    keys: new Keys(new KeyProjection(100, systemClock), membership, auth),
    /** @returns the secret */
    add(kind: CredentialKind, credential: Credential): string {
      const secret = formatSecret(DEFAULT_PREFIXES[kind], Buffer.alloc(32, ++made));
      known.set(digestOf(secret), { ...credential, kind });
      return secret;
    },
    set(secret: string, credential: Credential): void {
      known.set(digestOf(secret), credential);
    },
    remove(secret: string): void {
      known.delete(digestOf(secret));
    },
  };
}

import type { Credential } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { KnownKey } from './known-key.js';
import { Profiles } from './profiles.js';

/** A credential as the projection holds it, learned at 0. */
export function aKnownKey(change: Partial<Credential> = {}, digest = 'd'): KnownKey {
  const credential = aCredential(change);
  return new KnownKey(digest, new Profiles().take(credential), credential, 0);
}

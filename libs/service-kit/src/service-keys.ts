import { exportJWK, generateKeyPair, type JWK } from 'jose';

export interface ServiceKeys<Name extends string> {
  /** Ed25519 private keys with the service's name as `kid`, as `ServiceTokens` takes them. */
  readonly privateKeys: Readonly<Record<Name, JWK & { kty: 'OKP'; crv: 'Ed25519'; d: string; kid: Name }>>;
  readonly publicKeys: { keys: (JWK & { kty: 'OKP'; kid: Name })[] };
}

/** Fresh signing keys for services that call each other: for an installation, or a test. */
export async function serviceKeys<const Name extends string>(...names: readonly Name[]): Promise<ServiceKeys<Name>> {
  const pairs = await Promise.all(
    names.map(async (kid) => {
      const { privateKey, publicKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
      return [kid, { ...(await exportJWK(privateKey)), kid }, { ...(await exportJWK(publicKey)), kid }] as const;
    }),
  );
  return {
    privateKeys: Object.fromEntries(pairs.map(([kid, key]) => [kid, key])),
    publicKeys: { keys: pairs.map(([, , key]) => key) },
  } as ServiceKeys<Name>;
}

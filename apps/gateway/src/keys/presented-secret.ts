import { DEFAULT_PREFIXES, parseSecret, type CredentialKind, type SecretPrefixes } from '@sluice/primitives/secret';

export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** The secret that a request presents: `x-api-key`, then `api-key`, then `Authorization: Bearer`; undefined for none. */
export function presentedSecret(headers: Headers): string | undefined {
  const direct = single(headers['x-api-key']) ?? single(headers['api-key']);
  if (direct !== undefined) return direct.trim();
  const bearer = /^bearer +(\S+) *$/i.exec(single(headers['authorization']) ?? '');
  return bearer?.[1];
}

/** The presented secret and its kind by prefix and checksum; undefined for none or junk. */
export function presentedCredential(
  headers: Headers,
  prefixes: SecretPrefixes = DEFAULT_PREFIXES,
): { secret: string; kind: CredentialKind } | undefined {
  const secret = presentedSecret(headers);
  const kind = secret === undefined ? undefined : parseSecret(secret, prefixes);
  return secret === undefined || kind === undefined ? undefined : { secret, kind };
}

const single = (value: string | string[] | undefined): string | undefined =>
  (Array.isArray(value) ? value[0] : value) || undefined;

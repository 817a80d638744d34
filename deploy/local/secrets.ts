import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { SERVICES, type ServiceName } from '@sluice/contracts/actor';
import { DEFAULT_PREFIXES, formatSecret } from '@sluice/primitives/secret';
import { serviceKeys } from '@sluice/service-kit';
import type { JWK } from 'jose';

export const NATS_USERS = [
  'admin',
  'operator',
  'auth',
  'gateway',
  'metering',
  'billing',
  'router',
  'worker',
  'team',
] as const;
const DATABASE_ROLES = ['auth', 'billing', 'metering', 'grafana'] as const;

/** Every secret of one installation of the local stack. */
export interface StackSecrets {
  readonly operatorKey: string;
  readonly workerSecret: string;
  readonly databases: Record<(typeof DATABASE_ROLES)[number], string>;
  readonly nats: Record<(typeof NATS_USERS)[number], string>;
  readonly servicePrivateKeys: Record<ServiceName, JWK>;
  readonly servicePublicKeys: { readonly keys: JWK[] };
}

/** The secrets in `file` (0600): made at the first start and kept; what a newer version needs besides is added. */
export async function keptSecrets(file: string): Promise<StackSecrets> {
  const fresh = await newSecrets();
  const kept = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as StackSecrets) : fresh;
  const secrets: StackSecrets = {
    ...fresh,
    ...kept,
    databases: { ...fresh.databases, ...kept.databases },
    nats: { ...fresh.nats, ...kept.nats },
  };
  writePrivate(file, JSON.stringify(secrets, null, 2));
  return secrets;
}

/** Writes a file that only its owner can read, whole or not at all. */
export function writePrivate(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** What auth is told of a credential that exists from the start. */
export const digestOf = (secret: string): string => createHash('sha256').update(secret).digest('base64url');

async function newSecrets(): Promise<StackSecrets> {
  const password = () => randomBytes(24).toString('hex');
  const { privateKeys, publicKeys } = await serviceKeys(...SERVICES);
  return {
    operatorKey: formatSecret(DEFAULT_PREFIXES.operator, randomBytes(32)),
    workerSecret: password(),
    databases: each(DATABASE_ROLES, password),
    nats: each(NATS_USERS, password),
    servicePrivateKeys: privateKeys,
    servicePublicKeys: publicKeys,
  };
}

const each = <K extends string>(names: readonly K[], make: () => string) =>
  Object.fromEntries(names.map((name) => [name, make()])) as Record<K, string>;

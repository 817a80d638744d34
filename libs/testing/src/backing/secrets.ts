import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Secrets {
  readonly postgres: string;
  readonly nats: string;
  readonly redis: string;
}

export const POSTGRES_USER = 'postgres';
export const NATS_USER = 'sluice';

/** The servers' passwords: made once per folder, kept beside the data that was initialised with them, readable by us alone. */
export function secretsIn(folder: string): Secrets {
  const file = join(folder, 'secrets.json');
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Secrets;
  const password = (): string => randomBytes(24).toString('hex');
  const secrets: Secrets = { postgres: password(), nats: password(), redis: password() };
  writeFileSync(`${file}.new`, JSON.stringify(secrets), { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return secrets;
}

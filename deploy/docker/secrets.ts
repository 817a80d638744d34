// The secrets of one compose project: made at its first start, written for each container into a volume that only it mounts.
// Idempotent: what was made is kept, what is derived from it is written anew. Run by the one-shot container `secrets`.
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SERVICES, type ServiceName } from '@sluice/contracts/actor';
import { digestOf, keptSecrets, NATS_USERS, writePrivate, type StackSecrets } from '../local/secrets.ts';
import { DATABASE_OWNERS } from '../provision.ts';

/** Of the servers themselves and of Grafana's administrator; the local stack's servers have passwords of their own. */
interface ServerPasswords {
  readonly postgres: string;
  readonly redis: string;
  readonly grafana: string;
}

/** File names and contents by the volume they belong in. */
type Volumes = Readonly<Record<string, Readonly<Record<string, string>>>>;

const root = process.argv[2];
if (root === undefined) throw new Error('usage: secrets.ts <folder with the volumes>');
const secrets = await keptSecrets(join(root, 'kept', 'secrets.json'));
const servers = keptPasswords(join(root, 'kept', 'servers.json'));
for (const [volume, files] of Object.entries(volumesOf(secrets, servers)))
  for (const [name, text] of Object.entries(files)) writeForContainer(join(root, volume, name), text);
console.log('secrets are in place');

function keptPasswords(file: string): ServerPasswords {
  if (!existsSync(file)) {
    const password = () => randomBytes(24).toString('hex');
    const made: ServerPasswords = { postgres: password(), redis: password(), grafana: password() };
    writePrivate(file, JSON.stringify(made));
  }
  return JSON.parse(readFileSync(file, 'utf8')) as ServerPasswords;
}

function volumesOf(secrets: StackSecrets, servers: ServerPasswords): Volumes {
  const nats = (user: (typeof NATS_USERS)[number]) => `nats://${user}:${secrets.nats[user]}@nats:4222`;
  const database = (role: string, password: string, name: string) =>
    `postgres://${role}:${password}@postgres:5432/${name}`;
  const own: Record<ServiceName, Record<string, string>> = {
    auth: { OPERATOR_KEY_DIGESTS: digestOf(secrets.operatorKey) },
    billing: {},
    metering: {},
    router: { WORKER_SECRETS: JSON.stringify({ '*': secrets.workerSecret }) },
    gateway: { REDIS_URL: `redis://:${servers.redis}@redis:6379` },
  };
  for (const owner of DATABASE_OWNERS) own[owner]['DATABASE_URL'] = database(owner, secrets.databases[owner], owner);
  const services = SERVICES.map((service) => [
    service,
    {
      env: environment({
        NATS_URL: nats(service),
        SERVICE_PRIVATE_KEY: JSON.stringify(secrets.servicePrivateKeys[service]),
        SERVICE_PUBLIC_KEYS: JSON.stringify(secrets.servicePublicKeys),
        ...own[service],
      }),
    },
  ]);
  return {
    ...Object.fromEntries(services),
    worker: { env: environment({ NATS_URL: nats('worker'), WORKER_SECRET: secrets.workerSecret }) },
    dlq: { env: environment({ NATS_URL: nats('operator') }) },
    provision: {
      env: environment({
        POSTGRES_ADMIN_URL: database('postgres', servers.postgres, 'postgres'),
        NATS_ADMIN_URL: nats('admin'),
        ...Object.fromEntries(
          Object.entries(secrets.databases).map(([role, password]) => [`${role.toUpperCase()}_DB_PASSWORD`, password]),
        ),
      }),
    },
    kept: { 'operator-key': `${secrets.operatorKey}\n` },
    postgres: { password: servers.postgres },
    nats: { 'nats.conf': natsConfig(secrets) },
    // Only limits are in there: what a crash loses, the next minute makes up for.
    redis: { 'redis.conf': `requirepass ${servers.redis}\nsave ""\nappendonly no\n`, password: servers.redis },
    grafana: { 'admin-password': servers.grafana, 'database-password': secrets.databases.grafana },
  };
}

/** Users and rights are those of deploy/nats; it takes the passwords from the variables above it. */
function natsConfig(secrets: StackSecrets): string {
  const passwords = NATS_USERS.map((user) => `NATS_${user.toUpperCase()}_PASSWORD: "${secrets.nats[user]}"`);
  const users = readFileSync(new URL('../nats/sluice.conf', import.meta.url), 'utf8');
  const server = `server_name: sluice
http: 127.0.0.1:8222
jetstream { store_dir: "/data", max_file_store: 1TB }`;
  return [server, ...passwords, users].join('\n');
}

/** As `node --env-file` reads it. */
function environment(settings: Readonly<Record<string, string>>): string {
  const lines = Object.entries(settings).map(([name, value]) => {
    if (/['\n]/.test(value)) throw new Error(`${name} cannot be written into an env file`);
    return `${name}='${value}'\n`;
  });
  return lines.join('');
}

/** Whole or not at all. Readable by whichever user the container runs as: the volume is what keeps others out. */
function writeForContainer(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  chmodSync(`${file}.new`, 0o444);
  renameSync(`${file}.new`, file);
}

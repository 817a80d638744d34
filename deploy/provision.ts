// What must exist before the services run: a database and a role for each of them, and the streams. Idempotent; run by
// the local stack, and as a one-shot container in compose (`node deploy/provision.ts`, settings from the environment).
import { connect } from '@sluice/messaging';
import { Client, escapeIdentifier, escapeLiteral } from 'pg';

/** Services with a database of their own. */
export const DATABASE_OWNERS = ['auth', 'billing', 'metering'] as const;
export type DatabaseOwner = (typeof DATABASE_OWNERS)[number];

const CONNECT_MS = 30_000;
const STATEMENT_MS = 30_000;

/**
 * One database per service, owned by a role of the same name that can reach no other.
 * @param adminUrl a superuser's
 * @param passwords of the roles; `grafana` may read metering's tables and nothing else
 */
export async function provisionDatabases(
  adminUrl: string,
  passwords: Readonly<Record<DatabaseOwner | 'grafana', string>>,
): Promise<void> {
  const admin = await connectTo(adminUrl);
  try {
    for (const [role, password] of Object.entries(passwords)) {
      const name = escapeIdentifier(role);
      const exists = await admin.query('select 1 from pg_roles where rolname = $1', [role]);
      const verb = exists.rowCount ? 'alter' : 'create';
      await admin.query(
        `${verb} role ${name} with login password ${escapeLiteral(password)} nosuperuser nocreatedb nocreaterole`,
      );
    }
    for (const owner of DATABASE_OWNERS) {
      const name = escapeIdentifier(owner);
      const exists = await admin.query('select 1 from pg_database where datname = $1', [owner]);
      if (!exists.rowCount) await admin.query(`create database ${name} owner ${name}`);
      await admin.query(`revoke all on database ${name} from public`);
    }
    await admin.query('grant connect on database metering to grafana');
  } finally {
    await admin.end();
  }
  const metering = await connectTo(databaseUrl(adminUrl, 'metering'));
  try {
    await metering.query('grant usage on schema public to grafana');
    await metering.query('grant select on all tables in schema public to grafana');
    await metering.query(
      'alter default privileges for role metering in schema public grant select on tables to grafana',
    );
    await metering.query('alter role grafana set default_transaction_read_only = on');
  } finally {
    await metering.end();
  }
}

/** The same server, another database. */
export function databaseUrl(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${database}`;
  return other.href;
}

/** @param url of the NATS user `admin` */
export async function provisionStreams(url: string, replicas = 1): Promise<void> {
  const messaging = connect({ url, name: 'provision' });
  try {
    await messaging.provision(undefined, { replicas });
  } finally {
    await messaging.close();
  }
}

async function connectTo(url: string): Promise<Client> {
  for (let attempt = 1; ; attempt++) {
    const client = new Client({
      connectionString: url,
      connectionTimeoutMillis: CONNECT_MS,
      statement_timeout: STATEMENT_MS,
    });
    try {
      await client.connect();
      return client;
    } catch (error) {
      if (attempt === 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

if (import.meta.main) {
  const setting = (name: string): string => {
    const value = process.env[name];
    if (!value) throw new Error(`${name} is missing`);
    return value;
  };
  await provisionDatabases(setting('POSTGRES_ADMIN_URL'), {
    auth: setting('AUTH_DB_PASSWORD'),
    billing: setting('BILLING_DB_PASSWORD'),
    metering: setting('METERING_DB_PASSWORD'),
    grafana: setting('GRAFANA_DB_PASSWORD'),
  });
  await provisionStreams(setting('NATS_ADMIN_URL'), Number(process.env['STREAM_REPLICAS'] ?? 1));
  console.log('databases and streams are provisioned');
}

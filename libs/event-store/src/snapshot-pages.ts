import { Client } from 'pg';

const CONNECT_MS = 5_000;

export interface SnapshotOptions {
  readonly applicationName: string;
  /** Of each page but the last. */
  readonly rows: number;
  /** For the first page, which may have to sort all rows, and for each other one. */
  readonly pageMs: number;
  /** How long the reader may take for a page: PostgreSQL keeps what it saw at the beginning for as long. */
  readonly readerMs: number;
  /** Nobody reads any more: PostgreSQL stops within a second, in the middle of a page too. */
  readonly signal: AbortSignal;
}

/**
 * The rows of a query of any length, as they were at one moment, page by page: through a cursor in PostgreSQL, on a
 * connection of its own, so that a slow reader keeps nobody from the pool's. Holds one page.
 * @throws what PostgreSQL fails with; the signal's reason
 */
export async function* snapshotPages<Row extends object>(
  databaseUrl: string,
  query: { readonly sql: string; readonly parameters: readonly unknown[] },
  { applicationName, rows, pageMs, readerMs, signal }: SnapshotOptions,
): AsyncGenerator<Row[], void, undefined> {
  signal.throwIfAborted();
  const client = new Client({
    connectionString: databaseUrl,
    application_name: applicationName,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: pageMs,
    query_timeout: pageMs + CONNECT_MS,
    idle_in_transaction_session_timeout: readerMs,
    keepAlive: true,
  });
  // A connection that breaks later is noticed by the next query; without a listener it would end the process.
  client.on('error', () => {});
  // In the middle of a query it breaks the connection.
  const leave = () => void client.end().catch(() => {});
  signal.addEventListener('abort', leave, { once: true });
  try {
    await client.connect();
    // Without it a query runs to its end before the server sees that nobody waits for it.
    await client.query(`set client_connection_check_interval = '1s'`);
    await client.query('begin isolation level repeatable read read only');
    await client.query(`declare page no scroll cursor for ${query.sql}`, [...query.parameters]);
    for (let more = true; more;) {
      const page = await client.query<Row>(`fetch ${rows} from page`);
      more = page.rows.length === rows;
      if (page.rows.length > 0) yield page.rows;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', leave);
    await client.end().catch(() => {});
  }
}

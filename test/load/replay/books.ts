import { Client } from 'pg';
import type { Figures } from './reconcile.ts';

/** A place with one row per request, in its own database. */
export interface Book {
  /** How many of these requests it has. */
  count(requestIds: readonly string[]): Promise<number>;
  /** How many requests of these keys it has. */
  countOfKeys(keyIds: readonly string[]): Promise<number>;
  /** Every request of these keys, by id. */
  read(keyIds: readonly string[]): Promise<Map<string, Figures>>;
}

const QUERY_MS = 30_000;

type FiguresRow = Record<'request_id' | 'input' | 'output' | 'pico', string>;

/** As metering says: its record of each request. */
export const meteringBook = (url: string): Book =>
  bookOf(
    url,
    'usage_records',
    `select request_id, input_tokens::text as input, output_tokens::text as output, cost_pico::text as pico
     from usage_records where key_id = any($1)`,
  );

/**
 * As the ledger says: the tokens of the charge, and the money that its transactions took from the organization. The
 * entries are summed, not the charge believed: a charge that was not booked is a difference.
 */
export const ledgerBook = (url: string): Book =>
  bookOf(
    url,
    'charges',
    `select c.request_id, c.input_tokens::text as input, c.output_tokens::text as output,
       coalesce(-b.amount, 0)::text as pico
     from charges c
     left join (
       select t.organization_id, t.request_id, sum(e.amount) as amount
       from ledger_transactions t
       join ledger_entries e on e.transaction_id = t.id
       join ledger_accounts a on a.id = e.account_id and a.name = 'available'
       where t.organization_id in (select organization_id from charges where key_id = any($1))
       group by t.organization_id, t.request_id
     ) b on b.request_id = c.request_id and b.organization_id = c.organization_id
     where c.key_id = any($1)`,
  );

function bookOf(url: string, table: 'usage_records' | 'charges', figures: string): Book {
  const count = async (condition: string, values: readonly string[]) => {
    const [row] = await rows<{ n: number }>(url, `select count(*)::int as n from ${table} where ${condition}`, values);
    return row!.n;
  };
  return {
    count: (requestIds) => count('request_id = any($1)', requestIds),
    countOfKeys: (keyIds) => count('key_id = any($1)', keyIds),
    async read(keyIds) {
      const found = await rows<FiguresRow>(url, figures, keyIds);
      return new Map(
        found.map(({ request_id, input, output, pico }) => [
          request_id,
          { input: BigInt(input), output: BigInt(output), pico: BigInt(pico) },
        ]),
      );
    },
  };
}

/** A connection per question: in between the server may have been restarted. */
export async function rows<T>(url: string, sql: string, values: readonly string[]): Promise<T[]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000, query_timeout: QUERY_MS });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(sql, [values])).rows as T[];
  } finally {
    await client.end();
  }
}

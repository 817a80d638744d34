// All that billing's database has about the money of one organization.
import type { Client } from 'pg';

export interface Transaction {
  readonly id: string;
  readonly key: string;
  readonly kind: string;
  readonly requestId: string | null;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  /** The credit that was taken from by name. */
  readonly lotId: string | null;
  /** pico-USD by account. */
  readonly entries: Readonly<Record<string, bigint>>;
}

export interface Charge {
  readonly requestId: string;
  readonly keyId: string;
  readonly model: string;
  readonly month: string;
  /** Empty where it was charged before projects were kept. */
  readonly project: string;
  readonly input: bigint;
  readonly cached: bigint;
  readonly output: bigint;
  readonly audioMs: bigint;
  readonly cost: bigint;
  readonly charged: bigint;
  readonly absorbed: bigint;
  /** Of the version that it names; undefined where there is none. */
  readonly price:
    | {
        readonly model: string;
        readonly input: bigint;
        readonly cached: bigint;
        readonly output: bigint;
        readonly audioMs: bigint;
      }
    | undefined;
}

export interface Lot {
  readonly id: string;
  readonly amount: bigint;
  readonly remaining: bigint;
  readonly expiresAt: number | null;
}

export interface Books {
  readonly organizationId: string;
  /** pico-USD by account. */
  readonly balances: Readonly<Record<string, bigint>>;
  /** In the order in which they moved money. */
  readonly transactions: readonly Transaction[];
  readonly charges: readonly Charge[];
  readonly lots: readonly Lot[];
  /** pico-USD by month, `YYYY-MM-01`. */
  readonly months: Readonly<Record<string, bigint>>;
  /** pico-USD by key. */
  readonly keys: Readonly<Record<string, bigint>>;
  /** pico-USD by month, project and key, as statements have it. */
  readonly lines: Readonly<Record<string, bigint>>;
}

/** Who has anything in the books. */
export async function organizationsOf(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    'select organization_id as id from ledger_accounts union select organization_id from charges order by id',
  );
  return rows.map(({ id }) => id);
}

/** Entries of an account of another organization than their transaction's. */
export async function strayEntries(client: Client): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    `select count(*)::int as n from ledger_entries e join ledger_transactions t on t.id = e.transaction_id
     join ledger_accounts a on a.id = e.account_id where a.organization_id <> t.organization_id`,
  );
  return rows[0]!.n;
}

export async function readBooks(client: Client, organizationId: string): Promise<Books> {
  const read = async (sql: string) => (await client.query<Record<string, string | null>>(sql, [organizationId])).rows;
  const sums = async (sql: string) =>
    Object.fromEntries((await read(sql)).map((row) => [row['name']!, BigInt(row['amount']!)]));
  const of = 'where organization_id = $1';
  const transactions = await client.query<
    Omit<Transaction, 'at' | 'entries'> & { at: string; entries: Record<string, string> | null }
  >(
    `select t.id, t.idempotency_key as key, t.kind, t.request_id as "requestId", t.lot_id as "lotId",
       (extract(epoch from t.created_at) * 1000)::bigint as at,
       (select json_object_agg(a.name, e.amount::text) from ledger_entries e join ledger_accounts a on a.id = e.account_id
        where e.transaction_id = t.id) as entries
     from ledger_transactions t where t.organization_id = $1 order by t.seq`,
    [organizationId],
  );
  const charges = await read(
    `select c.request_id, c.key_id, c.model, c.project, to_char(c.ended_at at time zone 'utc', 'YYYY-MM-01') as month, c.input_tokens,
       c.cached_input_tokens, c.output_tokens, c.audio_ms, c.cost_pico, c.charged_pico, c.absorbed_pico, p.model as p_model,
       p.input as p_input, p.cached_input as p_cached, p.output as p_output, p.audio_ms as p_audio
     from charges c left join prices p on p.version = c.price_version where c.organization_id = $1`,
  );
  const lots = await read(
    `select id, amount, remaining, (extract(epoch from expires_at) * 1000)::bigint as at from credit_lots ${of}`,
  );
  return {
    organizationId,
    balances: await sums(`select name, balance as amount from ledger_accounts ${of}`),
    transactions: transactions.rows.map(({ entries, at, ...row }) => ({
      ...row,
      at: Number(at),
      entries: Object.fromEntries(Object.entries(entries ?? {}).map(([name, amount]) => [name, BigInt(amount)])),
    })),
    charges: charges.map(chargeOf),
    lots: lots.map((row) => ({
      id: row['id']!,
      amount: BigInt(row['amount']!),
      remaining: BigInt(row['remaining']!),
      expiresAt: row['at'] === null ? null : Number(row['at']),
    })),
    months: await sums(`select month::text as name, charged_pico as amount from spend_by_month ${of}`),
    keys: await sums(`select key_id as name, charged_pico as amount from key_spend ${of}`),
    lines: await sums(
      `select concat_ws(' ', month, project, key_id) as name, charged_pico as amount from spend_by_key ${of}`,
    ),
  };
}

function chargeOf(row: Record<string, string | null>): Charge {
  const whole = (column: string) => BigInt(row[column]!);
  return {
    requestId: row['request_id']!,
    keyId: row['key_id']!,
    model: row['model']!,
    month: row['month']!,
    project: row['project'] ?? '',
    input: whole('input_tokens'),
    cached: whole('cached_input_tokens'),
    output: whole('output_tokens'),
    audioMs: whole('audio_ms'),
    cost: whole('cost_pico'),
    charged: whole('charged_pico'),
    absorbed: whole('absorbed_pico'),
    price:
      row['p_model'] === null
        ? undefined
        : {
            model: row['p_model']!,
            input: whole('p_input'),
            cached: whole('p_cached'),
            output: whole('p_output'),
            audioMs: whole('p_audio'),
          },
  };
}

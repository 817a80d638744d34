// What metering's tables say, all of them: they have to be the same.
import pg from 'pg';
import type { Sums } from './records.ts';

export const TABLES = ['usage_records', 'usage_by_minute', 'usage_by_hour', 'usage_by_day', 'key_totals'] as const;
export type Books = Readonly<Record<(typeof TABLES)[number], Sums>>;

/** Each table's sums, in one look: no booking in between can make them differ. */
export async function readBooks(databaseUrl: string): Promise<Books> {
  const sums = TABLES.map((table) => {
    const records = table === 'usage_records' ? 'count(*)' : 'sum(request_count)';
    const cached = table === 'key_totals' ? '0' : 'sum(cached_input_tokens)';
    return `select '${table}' as name, ${records} as records, sum(input_tokens) as input, ${cached} as cached,
      sum(output_tokens) as output from ${table}`;
  });
  const rows = await ask(databaseUrl, sums.join(' union all '));
  return Object.fromEntries(
    rows.map((row) => [
      row['name']!,
      {
        records: Number(row['records']),
        inputTokens: Number(row['input']),
        cachedInputTokens: Number(row['cached']),
        outputTokens: Number(row['output']),
      },
    ]),
  ) as Books;
}

/** By the smallest table: to be asked often. */
export async function bookedRecords(databaseUrl: string): Promise<number> {
  return Number((await ask(databaseUrl, 'select sum(request_count) as records from usage_by_day'))[0]!['records']);
}

async function ask(databaseUrl: string, text: string): Promise<Record<string, string | null>[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query<Record<string, string | null>>(text)).rows;
  } finally {
    await client.end();
  }
}

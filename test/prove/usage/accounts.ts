import { ledgerBook, rows } from '../../load/replay/books.ts';
import { readAvailable } from '../../load/replay/management.ts';
import type { Figures } from '../../load/replay/reconcile.ts';
import { readWorkerLogs, type LogLine } from '../../load/replay/worker-logs.ts';
import type { Cluster } from './cluster.ts';

/** Metering's record of one request. */
export interface Metered extends Figures {
  readonly attempt: number;
  readonly stream: boolean;
  readonly estimated: boolean;
}

/** Sums that each have to be those of the records or of the charges they are made of. */
export type Sums = Readonly<Record<string, Readonly<Record<'requests' | 'input' | 'output' | 'pico', string>>>>;

/** What every place says of the requests of some keys, each read from its own. */
export interface Accounts {
  /** Of workers, in any order; a request with retries has several. */
  readonly lines: readonly LogLine[];
  readonly metered: ReadonlyMap<string, Metered>;
  readonly ledger: ReadonlyMap<string, Figures>;
  readonly sums: Sums;
  /** Of each gateway: where its requests stand in the trace of ENDs that came to be on the disk. */
  readonly synced: readonly ReadonlyMap<string, number>[];
  /** Records that were set aside, and messages that were given up. */
  readonly setAside: number;
  /** What the organization can spend, pico-USD. */
  readonly available: bigint;
}

export async function readAccounts({ stack, gateways }: Cluster, keyIds: readonly string[]): Promise<Accounts> {
  const { metering, billing } = stack.databases;
  return {
    lines: await readWorkerLogs(
      stack.workers.map(({ log }) => log),
      () => true,
    ),
    metered: await readMetered(metering, keyIds),
    ledger: await ledgerBook(billing).read(keyIds),
    sums: { ...(await readSums(metering, METERED_SUMS, keyIds)), ...(await readSums(billing, CHARGED_SUMS, keyIds)) },
    synced: gateways.map(({ synced }) => synced.read()),
    setAside: (await countSetAside(metering)) + (await countSetAside(billing)),
    available: await readAvailable(stack.demo),
  };
}

type MeteredRow = Record<'request_id' | 'input' | 'output' | 'pico', string> & {
  attempt: number;
  stream: boolean;
  estimated: boolean;
};

async function readMetered(url: string, keyIds: readonly string[]): Promise<Map<string, Metered>> {
  const found = await rows<MeteredRow>(
    url,
    `select request_id, input_tokens::text as input, output_tokens::text as output, cost_pico::text as pico,
       attempt::int, stream, estimated
     from usage_records where key_id = any($1)`,
    keyIds,
  );
  return new Map(
    found.map(({ request_id, input, output, pico, ...rest }) => [
      request_id,
      { input: BigInt(input), output: BigInt(output), pico: BigInt(pico), ...rest },
    ]),
  );
}

const ROLLUP = `select sum(request_count)::text as requests, sum(input_tokens)::text as input,
  sum(output_tokens)::text as output, sum(cost_pico)::text as pico from`;
const METERED_SUMS = {
  records: `select count(*)::text as requests, sum(input_tokens)::text as input, sum(output_tokens)::text as output,
    sum(cost_pico)::text as pico from usage_records`,
  minutes: `${ROLLUP} usage_by_minute`,
  hours: `${ROLLUP} usage_by_hour`,
  days: `${ROLLUP} usage_by_day`,
};
const CHARGED_SUMS = {
  charges: `select count(*)::text as requests, sum(input_tokens)::text as input, sum(output_tokens)::text as output,
    sum(charged_pico)::text as pico from charges`,
};

async function readSums(url: string, queries: Readonly<Record<string, string>>, keyIds: readonly string[]) {
  const sums = Object.entries(queries).map(async ([name, query]) => {
    const [row] = await rows<Sums[string]>(url, `${query} where key_id = any($1)`, keyIds);
    return [name, row!] as const;
  });
  return Object.fromEntries(await Promise.all(sums));
}

async function countSetAside(url: string): Promise<number> {
  const [row] = await rows<{ n: number }>(
    url,
    'select count(*)::int as n from usage_quarantine where cardinality($1::text[]) = 0',
    [],
  );
  return row!.n;
}

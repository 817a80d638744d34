import { USAGE } from '@sluice/contracts/subjects';
import { Redis } from 'ioredis';
import pg from 'pg';
import type { TestStack } from '../../stack.ts';

/** What the servers themselves count, since they started. */
export interface Counters {
  /** Calls by command, those from within scripts too. */
  readonly redis: Readonly<Record<string, number>>;
  /** Times that Redis read from a socket: commands that were sent together share one. */
  readonly redisReads: number;
  /** Transactions in auth's database. */
  readonly authTransactions: number;
  /** Messages of usage that the gateway has published. */
  readonly usageBatches: number;
  readonly keyLookups: number;
  /** Requests that the limiter admitted; `refused` it did not. */
  readonly limitChecks: number;
  readonly refused: number;
  /** Inference requests that the gateway ended well; `failed` it did not. */
  readonly answered: number;
  readonly failed: number;
}

export async function readCounters(stack: TestStack): Promise<Counters> {
  const [redis, authTransactions, usageBatches, gateway] = await Promise.all([
    redisInfo(stack.backing.redis.url),
    transactionsOf(stack, new URL(stack.databases.auth).pathname.slice(1)),
    messagesOf(stack, USAGE),
    metricsOf(stack.urls.gateway),
  ]);
  const commands = [...redis.matchAll(/^cmdstat_([\w|]+):calls=(\d+)/gm)].map(([, name, n]) => [name!, Number(n)]);
  const decided = (result: (text: string) => boolean) =>
    gateway('sluice_gateway_rate_decisions_total', (labels) => result(labels));
  const requests = (result: (text: string) => boolean) => gateway('gateway_inference_requests_total', result);
  return {
    redis: Object.fromEntries(commands) as Record<string, number>,
    redisReads: Number(/^total_reads_processed:(\d+)/m.exec(redis)?.[1]),
    authTransactions,
    usageBatches,
    keyLookups: gateway('gateway_key_lookups_total'),
    limitChecks: decided((labels) => labels.includes('result="allowed"')),
    refused: decided((labels) => !labels.includes('result="allowed"')),
    answered: requests((labels) => labels.includes('result="ok"')),
    failed: requests((labels) => !labels.includes('result="ok"')),
  };
}

export function since(before: Counters, after: Counters): Counters {
  const redis = Object.fromEntries(
    Object.entries(after.redis).map(([name, calls]) => [name, calls - (before.redis[name] ?? 0)]),
  );
  const difference = (field: Exclude<keyof Counters, 'redis'>) => after[field] - before[field];
  return {
    redis,
    redisReads: difference('redisReads'),
    authTransactions: difference('authTransactions'),
    usageBatches: difference('usageBatches'),
    keyLookups: difference('keyLookups'),
    limitChecks: difference('limitChecks'),
    refused: difference('refused'),
    answered: difference('answered'),
    failed: difference('failed'),
  };
}

/**
 * Round trips to Redis that a request waited for: admitting counts the log of the key and its places in flight, two ZCARD;
 * no other script calls it, and none of the others is waited for. A script that is changed has to be changed here.
 */
export const awaitedTrips = ({ redis }: Counters): number => (redis['zcard'] ?? 0) / 2;

export interface Book {
  readonly records: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Set aside instead of being booked. */
  readonly quarantined: number;
}

export const meteringBook = (stack: TestStack): Promise<Book> => bookOf(stack.databases.metering, 'usage_records');
export const billingBook = (stack: TestStack): Promise<Book> => bookOf(stack.databases.billing, 'charges');

/** How many records metering and billing say they took; cheap to ask while they work. */
export async function taken(stack: TestStack): Promise<number> {
  const [metering, billing] = await Promise.all([metricsOf(stack.urls.metering), metricsOf(stack.urls.billing)]);
  return Math.min(metering('sluice_metering_records_total'), billing('sluice_billing_records_total'));
}

async function bookOf(url: string, table: 'usage_records' | 'charges'): Promise<Book> {
  const { rows } = await query<Record<keyof Book, string>>(
    url,
    `select count(*) as records, coalesce(sum(input_tokens), 0) as "inputTokens",
       coalesce(sum(output_tokens), 0) as "outputTokens", (select count(*) from usage_quarantine) as quarantined
     from ${table}`,
  );
  const { records, inputTokens, outputTokens, quarantined } = rows[0]!;
  return {
    records: Number(records),
    inputTokens: Number(inputTokens),
    outputTokens: Number(outputTokens),
    quarantined: Number(quarantined),
  };
}

/** Asked in another database: the question is a transaction too. */
async function transactionsOf({ backing }: TestStack, database: string): Promise<number> {
  const { rows } = await query<{ n: string }>(
    backing.postgres.url,
    `select xact_commit + xact_rollback as n from pg_stat_database where datname = '${database}'`,
  );
  return Number(rows[0]!.n);
}

interface JetStreamReport {
  readonly account_details?: readonly {
    readonly stream_detail?: readonly { readonly name: string; readonly state: { readonly last_seq: number } }[];
  }[];
}

/** How many messages a stream has had. */
async function messagesOf({ backing }: TestStack, stream: string): Promise<number> {
  const report = (await (await fetch(`${backing.nats.monitorUrl}/jsz?accounts=1&streams=1`)).json()) as JetStreamReport;
  const streams = report.account_details?.flatMap(({ stream_detail = [] }) => stream_detail) ?? [];
  return streams.find(({ name }) => name === stream)?.state.last_seq ?? 0;
}

async function query<T extends pg.QueryResultRow>(url: string, sql: string): Promise<pg.QueryResult<T>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await client.query<T>(sql);
  } finally {
    await client.end();
  }
}

async function redisInfo(url: string): Promise<string> {
  const redis = new Redis(url, { lazyConnect: true });
  await redis.connect();
  try {
    return `${await redis.info('stats')}\n${await redis.info('commandstats')}`;
  } finally {
    redis.disconnect();
  }
}

/** Sums of a service's counters by name, and by labels where it matters. */
async function metricsOf(url: string): Promise<(name: string, labels?: (text: string) => boolean) => number> {
  const lines = (await (await fetch(`${url}/metrics`)).text()).split('\n');
  return (name, labels = () => true) =>
    lines
      .filter((line) => (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && labels(line))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

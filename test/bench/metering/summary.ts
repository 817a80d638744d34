// How long a summary of 90 days takes where there are millions of records: the database fills itself, then it is asked over HTTP.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { progressOf } from '../../load/replay/progress.ts';
import { call } from '../../stack.ts';
import { MODELS } from './records.ts';

export const DAYS = 90;
const DAY_MS = 86_400_000;
/** Of each organization; every one is used every day, with every model. */
const KEYS = 100;
/** Beside the one that asks, which has half of the records. */
const OTHERS = 20;
const WARM_UP = 20;

export interface SummaryFigures {
  readonly rawRecords: number;
  readonly daysRows: number;
  /** Of all keys together. */
  readonly foldedRows: number;
  /** Median of what a day took to be folded, with what PostgreSQL did beside it. */
  readonly foldMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Requests that the last answer came to, and that were put there. */
  readonly answered: number;
  readonly expected: number;
}

interface Asking {
  readonly databaseUrl: string;
  readonly baseUrl: string;
  readonly organizationId: string;
  readonly managementKey: string;
  readonly records: number;
  readonly queries: number;
  readonly stopping: AbortSignal;
}

export async function summaries(asking: Asking): Promise<SummaryFigures> {
  const { databaseUrl, baseUrl, managementKey, organizationId, queries, stopping } = asking;
  const today = Math.floor(Date.now() / DAY_MS) * DAY_MS;
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await fill(client, today, asking);
    await folded(client, today, stopping);
    const { rows } = await client.query<Record<'raw' | 'days' | 'folded' | 'fold_ms' | 'own', string>>(
      `select (select count(*) from usage_records) as raw, (select count(*) from usage_by_day) as days,
        (select count(*) from usage_by_day_all_keys) as folded,
        (select percentile_cont(0.5) within group (order by extract(epoch from took) * 1000)
          from (select folded_at - lag(folded_at) over (order by folded_at) as took from folded_days) as f) as fold_ms,
        (select sum(request_count) from usage_by_day where organization_id = $1 and bucket < $2) as own`,
      [organizationId, new Date(today)],
    );
    const day = (at: number) => new Date(at).toISOString().slice(0, 10);
    const path = `/api/usage?from=${day(today - DAYS * DAY_MS)}&to=${day(today)}&granularity=day&groupBy=model`;
    const took: number[] = [];
    let answered = 0;
    for (let n = 0; n < WARM_UP + queries && !stopping.aborted; n++) {
      const from = performance.now();
      const { status, body } = await call<{ data: { requestCount: number | string }[] }>(
        baseUrl,
        managementKey,
        'GET',
        path,
      );
      if (status !== 200) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
      if (n >= WARM_UP) took.push(performance.now() - from);
      answered = body.data.reduce((sum, { requestCount }) => sum + Number(requestCount), 0);
      await sleep(10);
    }
    took.sort((a, b) => a - b);
    const quantile = (q: number) =>
      Math.round(10 * (took[Math.min(took.length - 1, Math.floor(took.length * q))] ?? NaN)) / 10;
    return {
      rawRecords: Number(rows[0]!.raw),
      daysRows: Number(rows[0]!.days),
      foldedRows: Number(rows[0]!.folded),
      foldMs: Math.round(10 * Number(rows[0]!.fold_ms)) / 10,
      p50Ms: quantile(0.5),
      p99Ms: quantile(0.99),
      maxMs: quantile(1),
      answered,
      expected: Number(rows[0]!.own),
    };
  } finally {
    await client.end();
  }
}

/** Waits until metering has folded what it does of what was filled in: all but yesterday. It looks each minute. */
async function folded(client: pg.Client, today: number, stopping: AbortSignal): Promise<void> {
  const progress = progressOf('folding', DAYS - 1);
  for (let done = 0; done < DAYS - 1 && !stopping.aborted; await sleep(500)) {
    const { rows } = await client.query<{ n: string }>(
      `select count(*) as n from folded_days where day >= ($1::timestamptz at time zone 'UTC')::date`,
      [new Date(today - DAYS * DAY_MS)],
    );
    progress.set((done = Number(rows[0]!.n)));
  }
  progress.end();
  await client.query('vacuum analyze usage_by_day_all_keys');
}

/** Day by day, each record with an id of its day, and the rows of days that they come to. */
async function fill(client: pg.Client, today: number, { organizationId, records, stopping }: Asking): Promise<void> {
  const perDay = Math.floor(records / DAYS);
  const progress = progressOf('filling', perDay * DAYS);
  await client.query('set synchronous_commit = off');
  for (let ago = DAYS; ago >= 1 && !stopping.aborted; ago--) {
    const begin = new Date(today - ago * DAY_MS);
    const date = begin.toISOString().slice(0, 10);
    const partition = `usage_records_${date.replaceAll('-', '')}`;
    await client.query(
      `create table if not exists ${partition} partition of usage_records
        for values from ('${date}') to ('${new Date(today - (ago - 1) * DAY_MS).toISOString().slice(0, 10)}')`,
    );
    const series = `with i as (
        select i, case when i % 2 = 0 then $1 else 'bench-' || (i / 2) % ${OTHERS} end as organization,
          (i / (2 * ${OTHERS})) % ${KEYS} as key, (array[${MODELS.map((model) => `'${model}'`).join(',')}])[1 + i % 3] as model,
          case when i % 50 = 0 then 'error' when i % 31 = 0 then 'aborted' else 'ok' end as outcome,
          $2::timestamptz + i * interval '1 day' / ${perDay} as at
        from generate_series(0, ${perDay} - 1) as i)`;
    await client.query(
      `${series} insert into usage_records (day, request_id, rank, hash, attempt, boot, seq, organization_id, project, workload,
          key_id, model, endpoint, stream, outcome, estimated, input_tokens, cached_input_tokens, output_tokens,
          price_version, input_price, cached_input_price, output_price, cost_pico, worker, started_at, ended_at, ttft_ms)
        select '${date}', regexp_replace(lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0'), '(.{8})(.{4})', '\\1-\\2')
            || '-7' || lpad(to_hex(i % 4096), 3, '0') || '-8000-' || lpad(to_hex(i), 12, '0'),
          4, md5(i::text), 1, 'bench', i, organization, 'default', model, organization || '-' || key, model, '/v1/chat/completions',
          true, outcome, false, 1000, 100, 100, 'v1', 150000, 75000, 600000, 202500000, 'worker-1', at, at, 100
        from i`,
      [organizationId, begin],
    );
    await client.query(
      `${series} insert into usage_by_day (organization_id, bucket, key_id, model, project, workload, outcome, request_count,
          input_tokens, cached_input_tokens, output_tokens, cost_pico, ttft, duration)
        select organization, '${date}'::timestamp at time zone 'UTC', organization || '-' || key, model, 'default', model, outcome,
          count(*), sum(1000), sum(100), sum(100), sum(202500000), 70 * 1e220::numeric + 30 * 1e240::numeric, 60 * 1e360::numeric + 40 * 1e400::numeric
        from i group by organization, key, model, outcome`,
      [organizationId, begin],
    );
    progress.set(perDay * (DAYS - ago + 1));
  }
  progress.end();
  await client.query('vacuum analyze usage_by_day');
  await client.query('analyze usage_records');
}

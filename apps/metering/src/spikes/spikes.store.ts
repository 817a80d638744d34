import type { EntityManager } from '@mikro-orm/postgresql';
import { rfc3339 } from '@sluice/primitives/clock';
import { DEFAULT_USAGE_SPIKE_FACTOR } from '@sluice/contracts/metering';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { LEAST_HOURS, LEAST_TOKENS, USUAL_HOURS, type Spike } from './spike.js';

/** Of those who look for spikes: any constant, the same in every replica. */
const SPIKES_LOCK = '7310294416';

type SpikeRow = Record<
  'key_id' | 'organization_id' | 'hour_ms' | 'request_count' | 'total_tokens' | 'usual_tokens' | 'factor',
  string
>;

/**
 * Finds hours that are spikes and were not told yet, and keeps that they are: one statement. Only keys with much in an hour
 * have their past looked at. To be told in the same transaction; while another process looks there are none.
 * @param from first hour, milliseconds since the Unix epoch
 * @param now no hour that begins later
 */
export async function takeSpikes(em: EntityManager, from: number, now: number): Promise<Spike[]> {
  const tables = tablesOf(em);
  const lock = await sql<{ mine: boolean }>`select pg_try_advisory_xact_lock(${SPIKES_LOCK}) as mine`.execute(tables);
  if (!lock.rows[0]!.mine) return [];
  const tokens = sql`sum(input_tokens::numeric + output_tokens)`;
  const { rows } = await sql<SpikeRow>`
    with busy as (
      select organization_id, key_id, bucket, sum(request_count) as requests, ${tokens} as tokens
      from usage_by_hour where bucket >= ${rfc3339(from)}::timestamptz and bucket <= ${rfc3339(now)}::timestamptz
      group by organization_id, key_id, bucket having ${tokens} >= ${LEAST_TOKENS}::numeric),
    untold as (
      select b.*, case when f.organization_id is null then ${DEFAULT_USAGE_SPIKE_FACTOR}::numeric else f.factor end as factor
      from busy as b left join spike_factors as f on f.organization_id = b.organization_id
      where not exists (select from usage_spikes as s where s.key_id = b.key_id and s.hour = b.bucket))
    insert into usage_spikes
      (key_id, hour, organization_id, request_count, total_tokens, usual_tokens, factor)
    select key_id, bucket, organization_id, requests, tokens, usual, factor
    from untold as u cross join lateral (
      select percentile_disc(0.5) within group (order by past.tokens) as usual, count(*) as hours
      from (
        select ${tokens} as tokens from usage_by_hour as h
        where h.key_id = u.key_id and h.organization_id = u.organization_id and h.bucket < u.bucket
          and h.bucket >= u.bucket - ${USUAL_HOURS}::int * interval '1 hour'
        group by h.bucket having ${tokens} > 0
      ) as past
    ) as p
    where p.hours >= ${LEAST_HOURS}::int and u.tokens > u.factor * p.usual
    order by key_id, bucket
    on conflict do nothing
    returning key_id, organization_id, (extract(epoch from hour) * 1000)::bigint as hour_ms, request_count, total_tokens,
      usual_tokens, factor
  `.execute(tables);
  return rows.map((row) => ({
    organizationId: row.organization_id,
    keyId: row.key_id,
    hour: Number(row.hour_ms),
    requests: BigInt(row.request_count),
    tokens: BigInt(row.total_tokens),
    usualTokens: BigInt(row.usual_tokens),
    factor: Number(row.factor),
  }));
}

/** Those that no look reaches any more. */
export async function forgetSpikes(em: EntityManager, before: number): Promise<void> {
  await sql`delete from usage_spikes where hour < ${rfc3339(before)}::timestamptz`.execute(tablesOf(em));
}

/** What an organization has set; of several the newest stays, in whatever order they come. */
export async function keepSpikeFactor(
  em: EntityManager,
  organizationId: string,
  factor: number | null,
  version: number,
): Promise<void> {
  await sql`
    insert into spike_factors as f (organization_id, factor, version) values (${organizationId}, ${factor}, ${version})
    on conflict (organization_id) do update set factor = excluded.factor, version = excluded.version
    where f.version < excluded.version
  `.execute(tablesOf(em));
}

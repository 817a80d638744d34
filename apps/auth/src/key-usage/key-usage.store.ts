import type { EntityManager } from '@mikro-orm/postgresql';
import type { KeySpent } from '@sluice/contracts/billing';
import type { KeyMetered } from '@sluice/contracts/metering';
import { unnest } from '@sluice/event-store';
import type { PicoUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';

/** What a key has used and spent so far: a copy, some seconds late. */
export interface KeyUsage {
  readonly requestCount: bigint;
  /** Cached ones among them. */
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  /** When its last request ended; null where only what it spent has been heard. */
  readonly lastUsedAt: Date | null;
  readonly spent: PicoUsd;
}

/** Takes over what metering says of keys, unless something newer is known; the same again changes nothing. */
export async function recordMetered(em: EntityManager, said: readonly KeyMetered[]): Promise<void> {
  const { names, rows } = unnest(newest(said), {
    key_id: ['text', ({ keyId }) => keyId],
    request_count: ['bigint', ({ requestCount }) => requestCount],
    input_tokens: ['bigint', ({ inputTokens }) => inputTokens],
    output_tokens: ['bigint', ({ outputTokens }) => outputTokens],
    last_used_at: ['timestamptz', ({ lastUsedAt }) => lastUsedAt],
    metered_version: ['bigint', ({ version }) => version],
  });
  await sql`
    insert into key_usage as k (${names}) ${rows}
    on conflict (key_id) do update set request_count = excluded.request_count, input_tokens = excluded.input_tokens,
      output_tokens = excluded.output_tokens, last_used_at = excluded.last_used_at,
      metered_version = excluded.metered_version
    where k.metered_version < excluded.metered_version
  `.execute(em.getKysely());
}

/** Takes over what billing says of keys, unless something newer is known; the same again changes nothing. */
export async function recordSpent(em: EntityManager, said: readonly KeySpent[]): Promise<void> {
  const { names, rows } = unnest(newest(said), {
    key_id: ['text', ({ keyId }) => keyId],
    spent_pico: ['numeric', ({ spent }) => spent],
    spent_version: ['bigint', ({ version }) => version],
  });
  await sql`
    insert into key_usage as k (${names}) ${rows}
    on conflict (key_id) do update set spent_pico = excluded.spent_pico, spent_version = excluded.spent_version
    where k.spent_version < excluded.spent_version
  `.execute(em.getKysely());
}

/** The newest of each key, as a statement can't change a row twice; in the order of the keys, in which everybody locks them. */
function newest<Said extends KeyMetered | KeySpent>(said: readonly Said[]): Said[] {
  const byKey = new Map<string, Said>();
  for (const one of said) if (one.version > (byKey.get(one.keyId)?.version ?? 0)) byKey.set(one.keyId, one);
  return [...byKey.values()].sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
}

/** What is known of these keys, in one query, in the transaction of `em` if it has one. A key never heard of is not in it. */
export async function usageOf(em: EntityManager, keyIds: readonly string[]): Promise<Map<string, KeyUsage>> {
  if (keyIds.length === 0) return new Map();
  const { rows } = await sql<Record<string, string> & { last_used_ms: string | null }>`
    select key_id, request_count, input_tokens, output_tokens, spent_pico,
      (extract(epoch from last_used_at) * 1000)::bigint as last_used_ms
    from key_usage where key_id = any(${keyIds}::text[])
  `.execute(em.getKysely());
  return new Map(
    rows.map((row) => [
      row['key_id']!,
      {
        requestCount: BigInt(row['request_count']!),
        inputTokens: BigInt(row['input_tokens']!),
        outputTokens: BigInt(row['output_tokens']!),
        lastUsedAt: row.last_used_ms === null ? null : new Date(Number(row.last_used_ms)),
        spent: BigInt(row['spent_pico']!),
      },
    ]),
  );
}

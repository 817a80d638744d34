import type { EntityManager } from '@mikro-orm/postgresql';
import { changed, unnest } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import type { KeyTotalChange } from './key-totals.js';

/**
 * Adds to the totals, in the transaction that books the records, and marks what has to be published: one statement,
 * however many keys. A key's row is locked from here to the commit, as its row of the day is: come here late.
 */
export async function addToKeyTotals(em: EntityManager, changes: readonly KeyTotalChange[]): Promise<void> {
  if (changes.length === 0) return;
  const { names, rows } = unnest(changes, {
    key_id: ['text', (c) => c.keyId],
    organization_id: ['text', (c) => c.organizationId],
    request_count: ['bigint', (c) => c.requests],
    input_tokens: ['bigint', (c) => c.inputTokens],
    output_tokens: ['bigint', (c) => c.outputTokens],
    last_used_at: ['timestamptz', (c) => rfc3339(c.lastUsedAt)],
  });
  await sql`
    insert into key_totals as t (${names}) ${rows}
    on conflict (key_id) do update set
      request_count = t.request_count + excluded.request_count,
      input_tokens = t.input_tokens + excluded.input_tokens,
      output_tokens = t.output_tokens + excluded.output_tokens,
      last_used_at = greatest(t.last_used_at, excluded.last_used_at),
      ${changed}
    where (excluded.request_count, excluded.input_tokens, excluded.output_tokens) <> (0, 0, 0)
      or excluded.last_used_at > t.last_used_at
  `.execute(tablesOf(em));
}

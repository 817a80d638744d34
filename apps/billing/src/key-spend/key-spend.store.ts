import type { EntityManager } from '@mikro-orm/postgresql';
import { changed, unnest } from '@sluice/event-store';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import type { KeySpendChange } from './key-spend.js';

/** Adds to what keys have spent, in the transaction of the charges, and marks what has to be published: one statement. */
export async function addToKeySpend(em: EntityManager, changes: readonly KeySpendChange[]): Promise<void> {
  if (changes.length === 0) return;
  const { names, rows } = unnest(changes, {
    key_id: ['text', (c) => c.keyId],
    organization_id: ['text', (c) => c.organizationId],
    charged_pico: ['numeric', (c) => c.charged],
  });
  await sql`
    insert into key_spend as t (${names}) ${rows}
    on conflict (key_id) do update set charged_pico = t.charged_pico + excluded.charged_pico, ${changed}
  `.execute(tablesOf(em));
}

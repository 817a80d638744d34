import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';

/** What an event says of a key; `tags` undefined: nothing of them. */
export interface ToldKey {
  readonly keyId: string;
  readonly organizationId: string;
  readonly name: string;
  readonly tags: readonly string[] | undefined;
  /** Time of the event, RFC 3339. */
  readonly at: string;
}

/** Names and tags of keys, for people who read usage. */
@Injectable()
export class KeyNames {
  constructor(private readonly em: EntityManager) {}

  /** Events come twice, and in any order: the newest name stays, and so do the newest tags, each by their own time. */
  async keep({ keyId, organizationId, name, tags, at }: ToldKey): Promise<void> {
    await this.em.fork().transactional(async (em) => {
      const db = tablesOf(em);
      const newest = { organization_id: organizationId, name, named_at: at };
      await db
        .insertInto('key_names')
        .values({ key_id: keyId, ...newest, tagged_at: '-infinity' })
        .onConflict((conflict) =>
          conflict
            .column('key_id')
            .doUpdateSet(newest)
            .where('key_names.named_at', '<=', sql<string>`excluded.named_at`),
        )
        .execute();
      if (tags === undefined) return;
      // Holds the key's row: of two events at a time the second looks at the time that the first one left.
      const taken = await db
        .updateTable('key_names')
        .set({ tagged_at: at })
        .where('key_id', '=', keyId)
        .where('tagged_at', '<=', at)
        .executeTakeFirst();
      if (taken.numUpdatedRows === 0n) return;
      await db.deleteFrom('key_tags').where('key_id', '=', keyId).execute();
      const rows = [...new Set(tags)].map((tag) => ({ key_id: keyId, tag, organization_id: organizationId }));
      if (rows.length > 0) await db.insertInto('key_tags').values(rows).execute();
    });
  }
}

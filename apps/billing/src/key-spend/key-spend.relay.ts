import type { EntityManager } from '@mikro-orm/postgresql';
import { keySpentSchema, type KeySpent } from '@sluice/contracts/billing';
import { keySpentSubject } from '@sluice/contracts/subjects';
import { LatestRelay, type LatestRow } from '@sluice/event-store';
import type { Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { loggerFor } from '@sluice/service-kit';
import { sql } from 'kysely';

interface KeySpendRow extends LatestRow {
  readonly organization_id: string;
  readonly charged_pico: string;
}

const message = (row: KeySpendRow): KeySpent =>
  keySpentSchema.parse({
    keyId: row.key_id,
    organizationId: row.organization_id,
    version: Number(row.version),
    spent: row.charged_pico,
  } satisfies KeySpent);

/**
 * Tells KEYUSE what was charged for each key.
 * @param everyMs milliseconds between two messages about one key
 */
export const keySpendRelay = (em: EntityManager, messaging: Messaging, everyMs: number) =>
  new LatestRelay<KeySpendRow>({
    em,
    table: 'key_spend',
    columns: { organization_id: sql`t.organization_id`, charged_pico: sql`t.charged_pico` },
    everyMs,
    // An id of its own each time: the version twice must not be dropped as a repetition, when an older one came between.
    publish: (row) => messaging.publish(keySpentSubject(row.key_id), message(row), { id: systemId() }),
    onError: (err) => loggerFor('key-spend').debug({ err }, 'spend of keys waits to be published'),
  });

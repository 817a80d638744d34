import type { EntityManager } from '@mikro-orm/postgresql';
import { keyMeteredSchema, type KeyMetered } from '@sluice/contracts/metering';
import { keyMeteredSubject } from '@sluice/contracts/subjects';
import { LatestRelay, type LatestRow } from '@sluice/event-store';
import type { Messaging } from '@sluice/messaging';
import { rfc3339 } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor } from '@sluice/service-kit';
import { sql } from 'kysely';

interface KeyTotalsRow extends LatestRow {
  readonly organization_id: string;
  readonly request_count: string;
  readonly input_tokens: string;
  readonly output_tokens: string;
  readonly last_used_ms: string;
}

const message = (row: KeyTotalsRow): KeyMetered =>
  keyMeteredSchema.parse({
    keyId: row.key_id,
    organizationId: row.organization_id,
    version: Number(row.version),
    requestCount: row.request_count,
    inputTokens: row.input_tokens,
    outputTokens: row.output_tokens,
    lastUsedAt: rfc3339(Number(row.last_used_ms)),
  } satisfies KeyMetered);

/**
 * Tells KEYUSE what each key has used.
 * @param everyMs milliseconds between two messages about one key
 */
export const keyTotalsRelay = (em: EntityManager, messaging: Messaging, everyMs: number) =>
  new LatestRelay<KeyTotalsRow>({
    em,
    table: 'key_totals',
    columns: {
      organization_id: sql`t.organization_id`,
      request_count: sql`t.request_count`,
      input_tokens: sql`t.input_tokens`,
      output_tokens: sql`t.output_tokens`,
      last_used_ms: sql`(extract(epoch from t.last_used_at) * 1000)::bigint`,
    },
    everyMs,
    // An id of its own each time: the version twice must not be dropped as a repetition, when an older one came between.
    publish: (row) => messaging.publish(keyMeteredSubject(row.key_id), message(row), { id: systemId() }),
    onError: (err) => loggerFor('key-totals').debug({ err }, 'totals of keys wait to be published'),
  });

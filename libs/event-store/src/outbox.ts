import type { EntityManager } from '@mikro-orm/postgresql';
import { assert } from '@sluice/primitives/assert';
import { tablesOf } from './tables.js';

/** Something to tell the world, in the words of a contract. */
export interface OutboundMessage {
  /** Unique for ever: what consumers and the broker recognise a repetition by. */
  readonly id: string;
  readonly subject: string;
  /** JSON-serializable. */
  readonly payload: object;
  /** @default application/json */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A message in the outbox, as it will be sent. */
export interface OutboxMessage {
  /** Primary key of its row: the order of sending. */
  readonly row: string;
  readonly id: string;
  readonly subject: string;
  /** JSON text. */
  readonly payload: string;
  /** With `Content-Type`. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Puts messages into the outbox, in the caller's transaction: they are sent if and only if it commits. Hand the result
 * to `OutboxRelay.publish` after the commit to have them sent at once; otherwise the sweeper sends them a little later.
 */
export async function enqueue(
  em: EntityManager,
  messages: readonly OutboundMessage[],
): Promise<readonly OutboxMessage[]> {
  if (messages.length === 0) return [];
  assert(em.isInTransaction(), 'enqueue outside of a transaction');
  const encoded = messages.map(({ id, subject, payload, contentType = 'application/json', headers = {} }) => ({
    id,
    subject,
    payload: JSON.stringify(payload),
    headers: { ...headers, 'Content-Type': contentType },
  }));
  const rows = await tablesOf(em)
    .insertInto('outbox')
    .values(
      encoded.map(({ id, subject, payload, headers }) => ({
        message_id: id,
        subject,
        payload,
        headers: JSON.stringify(headers),
      })),
    )
    .returning('id')
    .execute();
  assert(rows.length === encoded.length, 'the outbox took every message');
  return encoded.map((message, index) => ({ row: rows[index]!.id, ...message }));
}

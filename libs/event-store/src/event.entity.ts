import { defineEntity, p } from '@mikro-orm/core';

/** The record of what happened: append-only. Written by EventStore only. */
export const EventRow = defineEntity({
  name: 'EventRow',
  tableName: 'events',
  properties: {
    globalPosition: p.bigint().primary().autoincrement(),
    streamId: p.text(),
    version: p.integer(),
    eventId: p.uuid().unique(),
    type: p.text(),
    data: p.json<unknown>(),
    metadata: p.json<unknown>(),
    recordedAt: p.datetime(),
  },
  uniques: [{ name: 'events_stream_version', properties: ['streamId', 'version'] }],
});

/** Messages that are committed and not yet acknowledged by the broker: a queue, rows go away. */
export const OutboxRow = defineEntity({
  name: 'OutboxRow',
  tableName: 'outbox',
  properties: {
    id: p.bigint().primary().autoincrement(),
    messageId: p.text(),
    subject: p.text(),
    headers: p.json<Record<string, string>>(),
    payload: p.text(),
    createdAt: p.datetime().defaultRaw('now()'),
  },
});

/** Messages whose effect is committed, per consumer. */
export const InboxRow = defineEntity({
  name: 'InboxRow',
  tableName: 'inbox',
  properties: {
    consumer: p.text().primary(),
    messageId: p.text().primary(),
    receivedAt: p.datetime().defaultRaw('now()'),
  },
});

/** For the `entities` of a service with an event store. */
export const EVENT_STORE_ENTITIES = [EventRow, OutboxRow, InboxRow] as const;
/** For the `entities` of a service that publishes and consumes, but keeps no events. */
export const MESSAGING_ENTITIES = [OutboxRow, InboxRow] as const;

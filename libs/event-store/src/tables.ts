import type { EntityManager } from '@mikro-orm/postgresql';
import type { Generated, GeneratedAlways, Kysely } from 'kysely';

/** The tables of this library as kysely sees them; bigint columns come back as strings. */
export interface Tables {
  events: {
    global_position: GeneratedAlways<string>;
    stream_id: string;
    version: number;
    event_id: string;
    type: string;
    data: unknown;
    metadata: unknown;
    recorded_at: Date;
  };
  outbox: {
    id: GeneratedAlways<string>;
    message_id: string;
    subject: string;
    headers: unknown;
    payload: string;
    created_at: Generated<Date>;
  };
  inbox: { consumer: string; message_id: string; received_at: Generated<Date> };
}

/** Queries in the transaction of this entity manager, if it has one. */
export const tablesOf = (em: EntityManager): Kysely<Tables> => em.getKysely<Tables>();

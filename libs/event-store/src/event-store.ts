import type { EntityManager } from '@mikro-orm/postgresql';
import {
  fold,
  WrongVersion,
  type Decider,
  type EventCodec,
  type EventMetadata,
  type LoadedStream,
} from '@sluice/event-sourcing';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { systemId, type NewId } from '@sluice/primitives/id';
import { sql } from 'kysely';
import { enqueue, type OutboundMessage, type OutboxMessage } from './outbox.js';
import { tablesOf } from './tables.js';

/** An event as it was recorded. */
export interface StoredEvent<E> {
  readonly id: string;
  readonly streamId: string;
  /** Number in its stream, from 1, without gaps. */
  readonly version: number;
  /** Number among all events of the database: ascending, with gaps. */
  readonly globalPosition: bigint;
  readonly event: E;
  readonly metadata: EventMetadata;
  readonly recordedAt: Date;
}

/** Keeps a read model in step, in the transaction of the events. */
export type InlineProjection<E> = (em: EntityManager, events: readonly StoredEvent<E>[]) => Promise<void>;
/** What leaves: private events to contracts. Pure; its ids come from the events, so that a repetition is recognised. */
export type Publisher<E> = (events: readonly StoredEvent<E>[]) => readonly OutboundMessage[];

export interface EventStoreOptions<E> {
  readonly em: EntityManager;
  readonly codec: EventCodec<E>;
  readonly projections?: readonly InlineProjection<E>[];
  readonly publisher?: Publisher<E>;
  /** Sends directly after the commit; without it the sweeper does it later. */
  readonly relay?: { publish(messages: readonly OutboxMessage[]): Promise<boolean> };
  readonly newId?: NewId;
  readonly clock?: Clock;
}

export interface HandleOptions {
  /** The caller's transaction. The caller gives `outbox` of the result to the relay after its commit. */
  readonly em?: EntityManager;
  /** How often a lost race is decided again. */
  readonly retries?: number;
}

export interface Committed<S, E> {
  /** What this command made happen; empty when it was already honoured. */
  readonly events: readonly StoredEvent<E>[];
  readonly state: S;
  readonly version: number;
  readonly outbox: readonly OutboxMessage[];
  /**
   * True once the broker has acknowledged every message; false when the sweeper has to do it (always, in a caller's
   * transaction). Never rejects, ends within the publish timeout.
   */
  readonly published: Promise<boolean>;
}

type Decided<S, E> = Omit<Committed<S, E>, 'published'>;

export interface ManyCommitted<S, E> {
  /** By stream; one whose command was already honoured has no events. */
  readonly handled: ReadonlyMap<string, Omit<Decided<S, E>, 'outbox'>>;
  /** Streams whose command was refused, and what `decide` threw: the others go on without them. */
  readonly refused: ReadonlyMap<string, unknown>;
  /** For the relay, in as many pieces as it takes at once. */
  readonly outbox: readonly OutboxMessage[];
}

/** Events that follow the last one of a stream. */
interface Appended<E> {
  readonly streamId: string;
  readonly expectedVersion: number;
  readonly events: readonly E[];
}

/** Event streams of one kind of aggregate in PostgreSQL: events, read models and outbox in one transaction. */
export class EventStore<E> {
  readonly #options: EventStoreOptions<E>;
  readonly #newId: NewId;
  readonly #clock: Clock;

  constructor(options: EventStoreOptions<E>) {
    this.#options = options;
    this.#newId = options.newId ?? systemId;
    this.#clock = options.clock ?? systemClock;
  }

  /**
   * Read, decide, append, project, enqueue: one transaction (a savepoint in the caller's). Nothing is written when the
   * command was already honoured.
   * @throws WrongVersion after `retries` lost races, InvalidEvent, and whatever `decide` throws to refuse
   */
  async handle<C, S>(
    decider: Decider<C, S, E>,
    streamId: string,
    command: C,
    metadata: EventMetadata,
    { em, retries = 3 }: HandleOptions = {},
  ): Promise<Committed<S, E>> {
    for (let attempt = 0; ; attempt += 1) {
      const root = em ?? this.#options.em.fork();
      try {
        const decided = await root.transactional((tx) =>
          this.#decide(tx, decider, streamId, command, metadata, attempt > 0),
        );
        const published =
          em || !this.#options.relay
            ? Promise.resolve(decided.outbox.length === 0)
            : this.#options.relay.publish(decided.outbox);
        return { ...decided, published };
      } catch (error) {
        if (attempt >= retries || !mayGoBetter(error, em !== undefined)) throw error;
      }
    }
  }

  /**
   * A command to each of many streams in one transaction, with as many statements as for one: for a few hundred at once.
   * The caller gives `outbox` to the relay.
   * @throws WrongVersion after `retries` lost races, InvalidEvent
   */
  async handleMany<C, S>(
    decider: Decider<C, S, E>,
    commands: ReadonlyMap<string, C>,
    metadata: EventMetadata,
    { retries = 3 }: { retries?: number } = {},
  ): Promise<ManyCommitted<S, E>> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#options.em
          .fork()
          .transactional((tx) => this.#decideMany(tx, decider, commands, metadata, attempt > 0));
      } catch (error) {
        if (attempt >= retries || !mayGoBetter(error, false)) throw error;
      }
    }
  }

  /** The events of a stream, decoded and in order. */
  async load(streamId: string, em: EntityManager = this.#options.em.fork()): Promise<readonly StoredEvent<E>[]> {
    return this.#load([streamId], em);
  }

  /** Those of several streams, of each in order. */
  async #load(streamIds: readonly string[], em: EntityManager): Promise<readonly StoredEvent<E>[]> {
    const rows = await tablesOf(em)
      .selectFrom('events')
      .selectAll()
      .where('stream_id', 'in', streamIds)
      .orderBy('stream_id')
      .orderBy('version')
      .execute();
    return rows.map((row) => ({
      id: row.event_id,
      streamId: row.stream_id,
      version: row.version,
      globalPosition: BigInt(row.global_position),
      event: this.#options.codec.decode({ type: row.type, data: row.data }),
      metadata: row.metadata as EventMetadata,
      recordedAt: new Date(row.recorded_at),
    }));
  }

  async read(streamId: string, em: EntityManager = this.#options.em.fork()): Promise<LoadedStream<E>> {
    const stored = await this.load(streamId, em);
    return { events: stored.map(({ event }) => event), version: stored.at(-1)?.version ?? 0 };
  }

  async #decide<C, S>(
    tx: EntityManager,
    decider: Decider<C, S, E>,
    streamId: string,
    command: C,
    metadata: EventMetadata,
    contended: boolean,
  ): Promise<Decided<S, E>> {
    if (contended) await queueUp(tx, [streamId]);
    const { events: past, version } = await this.read(streamId, tx);
    const before = fold(decider, past);
    const decided = decider.decide(command, before);
    if (decided.length === 0) return { events: [], state: before, version, outbox: [] };

    const appended = [{ streamId, expectedVersion: version, events: decided }];
    const { events, outbox } = await this.#append(tx, appended, metadata);
    const state = decided.reduce((state, event) => decider.evolve(state, event), before);
    return { events, state, version: version + events.length, outbox };
  }

  async #decideMany<C, S>(
    tx: EntityManager,
    decider: Decider<C, S, E>,
    commands: ReadonlyMap<string, C>,
    metadata: EventMetadata,
    contended: boolean,
  ): Promise<ManyCommitted<S, E>> {
    const streamIds = [...commands.keys()].sort();
    if (contended) await queueUp(tx, streamIds);
    const past = Map.groupBy(streamIds.length === 0 ? [] : await this.#load(streamIds, tx), ({ streamId }) => streamId);
    const appended: (Appended<E> & { readonly state: S })[] = [];
    const refused = new Map<string, unknown>();
    for (const streamId of streamIds) {
      const stored = past.get(streamId) ?? [];
      const before = fold(
        decider,
        stored.map(({ event }) => event),
      );
      try {
        const events = decider.decide(commands.get(streamId)!, before);
        const state = events.reduce((state, event) => decider.evolve(state, event), before);
        appended.push({ streamId, expectedVersion: stored.at(-1)?.version ?? 0, events, state });
      } catch (error) {
        refused.set(streamId, error);
      }
    }
    const { events, outbox } = await this.#append(tx, appended, metadata);
    const byStream = Map.groupBy(events, ({ streamId }) => streamId);
    const handled = appended.map(({ streamId, expectedVersion, events: { length }, state }) => {
      const one = { events: byStream.get(streamId) ?? [], state, version: expectedVersion + length };
      return [streamId, one] as const;
    });
    return { handled: new Map(handled), refused, outbox };
  }

  /** Appends, projects, enqueues. */
  async #append(
    tx: EntityManager,
    appended: readonly Appended<E>[],
    metadata: EventMetadata,
  ): Promise<{ events: readonly StoredEvent<E>[]; outbox: readonly OutboxMessage[] }> {
    const events = await this.#insert(tx, appended, metadata);
    if (events.length === 0) return { events, outbox: [] };
    for (const project of this.#options.projections ?? []) await project(tx, events);
    return { events, outbox: await enqueue(tx, this.#options.publisher?.(events) ?? []) };
  }

  async #insert(
    tx: EntityManager,
    appended: readonly Appended<E>[],
    metadata: EventMetadata,
  ): Promise<readonly StoredEvent<E>[]> {
    const recordedAt = new Date(this.#clock.now());
    const { address: _personal, ...lasting } = metadata;
    const stored = appended.flatMap(({ streamId, expectedVersion, events }) =>
      events.map((event, index) => ({
        id: this.#newId(),
        streamId,
        version: expectedVersion + 1 + index,
        event,
        metadata,
        recordedAt,
      })),
    );
    if (stored.length === 0) return [];
    try {
      const rows = await tablesOf(tx)
        .insertInto('events')
        .values(
          stored.map(({ id, streamId, version, event }) => {
            const { type, data } = this.#options.codec.encode(event);
            return {
              stream_id: streamId,
              version,
              event_id: id,
              type,
              data: JSON.stringify(data),
              metadata: JSON.stringify(lasting),
              recorded_at: recordedAt,
            };
          }),
        )
        .returning(['event_id', 'global_position'])
        .execute();
      const positions = new Map(rows.map((row) => [row.event_id, BigInt(row.global_position)]));
      return stored.map((event) => ({ ...event, globalPosition: positions.get(event.id)! }));
    } catch (error) {
      const { code, constraint } = error as { code?: string; constraint?: string };
      if (code === UNIQUE_VIOLATION && constraint === 'events_stream_version') {
        // Of many it may have been any: all are decided again.
        const { streamId, expectedVersion } = appended[0]!;
        throw new WrongVersion(streamId, expectedVersion, { cause: error });
      }
      throw error;
    }
  }
}

/** Who lost a race queues up: otherwise n writers of one stream need n rounds. */
async function queueUp(tx: EntityManager, streamIds: readonly string[]): Promise<void> {
  for (const streamId of streamIds) {
    await sql`select pg_advisory_xact_lock(hashtextextended(${streamId}, 0))`.execute(tablesOf(tx));
  }
}

const UNIQUE_VIOLATION = '23505';
const SERIALIZATION_FAILURE = '40001';
const DEADLOCK = '40P01';

/** A deadlock ends the whole transaction: only who owns it can try again. */
function mayGoBetter(error: unknown, inCallersTransaction: boolean): boolean {
  if (error instanceof WrongVersion) return true;
  const { code } = error as { code?: string };
  return !inCallersTransaction && (code === DEADLOCK || code === SERIALIZATION_FAILURE);
}

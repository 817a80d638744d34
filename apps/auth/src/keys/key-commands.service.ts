import type { EntityManager } from '@mikro-orm/postgresql';
import type { Invalidation } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import type { EventMetadata } from '@sluice/event-sourcing';
import { enqueue, EventStore, type Committed, type OutboxMessage, type OutboxRelay } from '@sluice/event-store';
import { systemId } from '@sluice/primitives/id';
import { auditTrail } from '../audit/audit-trail.store.js';
import type { InForceService, Reached } from '../gateways/in-force.service.js';
import { invalidationMessage } from './invalidation.js';
import { keyCodec, keyStream, type KeyEvent, type KeyState } from './key.js';
import { keyDecider, type KeyCommand } from './key.decider.js';
import { publishKey } from './key.publisher.js';
import { projectKeys } from './keys.store.js';

/** Keys per transaction: its locks are held for a fraction of a second. */
const BATCH = 200;
/** Messages handed to the relay at once: a part of what it sends at the same time, so that others get through. */
const PUBLISH_AT_ONCE = 100;
const ATTEMPTS = 3;
const DEADLOCK = '40P01';

type Inflight = Invalidation['inflight'];

/** What a command did to many keys. */
interface Batched {
  /** Keys it changed something of. */
  readonly changed: number;
  readonly invalidations: readonly Invalidation[];
  readonly outbox: readonly OutboxMessage[];
  readonly published: Promise<boolean>;
}

/** Commands on the streams of keys, for one and for many, and the way to have them in force. */
export class KeyCommands {
  private readonly store: EventStore<KeyEvent>;

  constructor(
    private readonly em: EntityManager,
    private readonly relay: OutboxRelay,
    private readonly inForce: InForceService,
  ) {
    this.store = new EventStore({
      em,
      codec: keyCodec,
      relay,
      projections: [projectKeys, auditTrail],
      publisher: (stored) => stored.flatMap(publishKey),
    });
  }

  run(keyId: string, command: KeyCommand, metadata: EventMetadata): Promise<Committed<KeyState, KeyEvent>> {
    return this.store.handle(keyDecider, keyStream(keyId), command, metadata);
  }

  /**
   * Comes back when what was committed is in force at every gateway, or says that it is pending. When nothing was
   * committed as it had been before, the whole procedure runs again: the first one may have ended half way.
   * @param startedAt monotonic milliseconds
   */
  reach(
    keyId: string,
    committed: Committed<KeyState, KeyEvent>,
    inflight: Inflight,
    startedAt: number,
  ): Promise<Reached> {
    const invalidations = [{ id: keyId, version: committed.version, inflight }];
    return committed.events.length > 0
      ? this.inForce.reach(invalidations, committed, startedAt)
      : this.inForce.announceAgain(invalidations, startedAt);
  }

  /** One command to many keys, in transactions of a few hundred, and one procedure to have all of it in force. */
  async runManyInForce(
    keyIds: readonly string[],
    command: KeyCommand,
    metadata: EventMetadata,
    inflight: Inflight,
    startedAt: number,
  ): Promise<{ changed: number; reached: Reached }> {
    const { changed, invalidations, ...sent } = await this.runMany(keyIds, command, metadata, inflight);
    return { changed, reached: await this.inForce.reach(invalidations, sent, startedAt) };
  }

  /**
   * One command to many keys, in transactions of a few hundred; a key that is not there is left out.
   * @param announce what to announce of keys that it changed nothing of, as an earlier attempt may have ended half way
   */
  async runMany(
    keyIds: readonly string[],
    command: KeyCommand,
    metadata: EventMetadata,
    announce?: Inflight,
  ): Promise<Batched> {
    // In the same order everywhere, so that two of these do not wait for each other.
    const sorted = [...new Set(keyIds)].sort();
    const done: Omit<Batched, 'published'>[] = [];
    const published: Promise<boolean>[] = [];
    for (let from = 0; from < sorted.length; from += BATCH) {
      const batch = await this.batch(sorted.slice(from, from + BATCH), command, metadata, announce);
      done.push(batch);
      published.push(this.publish(batch.outbox));
    }
    return {
      changed: done.reduce((sum, { changed }) => sum + changed, 0),
      invalidations: done.flatMap(({ invalidations }) => invalidations),
      outbox: done.flatMap(({ outbox }) => outbox),
      published: Promise.all(published).then((all) => all.every(Boolean)),
    };
  }

  private async batch(
    keyIds: readonly string[],
    command: KeyCommand,
    metadata: EventMetadata,
    announce: Inflight | undefined,
  ): Promise<Omit<Batched, 'published'>> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.em.fork().transactional((tx) => this.batchWithin(tx, keyIds, command, metadata, announce));
      } catch (error) {
        if ((error as { code?: string }).code !== DEADLOCK || attempt === ATTEMPTS) throw error;
      }
    }
  }

  private async batchWithin(
    tx: EntityManager,
    keyIds: readonly string[],
    command: KeyCommand,
    metadata: EventMetadata,
    announce: Inflight | undefined,
  ): Promise<Omit<Batched, 'published'>> {
    let changed = 0;
    const invalidations: Invalidation[] = [];
    const outbox: OutboxMessage[] = [];
    const again: Invalidation[] = [];
    for (const keyId of keyIds) {
      const committed = await this.store
        .handle(keyDecider, keyStream(keyId), command, metadata, { em: tx })
        .catch(unlessNotFound);
      if (committed === undefined) continue;
      const { events, version } = committed;
      const inflight = command.type === 'revoke' ? command.inflight : 'drain';
      if (events.length > 0) {
        changed += 1;
        invalidations.push({ id: keyId, version, inflight });
        outbox.push(...committed.outbox);
      } else if (announce !== undefined) again.push({ id: keyId, version, inflight: announce });
    }
    outbox.push(
      ...(await enqueue(
        tx,
        again.map((invalidation) => invalidationMessage(systemId(), invalidation)),
      )),
    );
    return { changed, invalidations: [...invalidations, ...again], outbox };
  }

  private async publish(outbox: readonly OutboxMessage[]): Promise<boolean> {
    let all = true;
    for (let from = 0; from < outbox.length; from += PUBLISH_AT_ONCE) {
      if (!(await this.relay.publish(outbox.slice(from, from + PUBLISH_AT_ONCE)))) all = false;
    }
    return all;
  }
}

function unlessNotFound(error: unknown): undefined {
  if (error instanceof Rejected && error.code === 'not_found') return undefined;
  throw error;
}

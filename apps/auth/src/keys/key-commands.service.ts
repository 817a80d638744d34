import type { EntityManager } from '@mikro-orm/postgresql';
import type { Invalidation } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import type { EventMetadata } from '@sluice/event-sourcing';
import { enqueue, EventStore, type Committed, type OutboxMessage, type OutboxRelay } from '@sluice/event-store';
import type { Clock } from '@sluice/primitives/clock';
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
    private readonly clock: Clock,
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

  /** Ends many keys, in transactions of a few hundred, and has all of it in force by one procedure. */
  async revokeMany(
    keyIds: readonly string[],
    command: Extract<KeyCommand, { type: 'revoke' }>,
    metadata: EventMetadata,
  ): Promise<{ changed: number; reached: Reached }> {
    const startedAt = this.clock.monotonic();
    const all = await this.runMany(keyIds, () => command, metadata, command.inflight);
    const { changed, invalidations, ...sent } = all;
    // Its time to say "pending" begins here: what many take to be recorded is no sign of a gateway that does not answer.
    const recordedAt = this.clock.monotonic();
    const reached = await this.inForce.reach(invalidations, sent, recordedAt);
    if ('pending' in reached) return { changed, reached };
    const ms = reached.inForce.ms + Math.round(recordedAt - startedAt);
    return { changed, reached: { inForce: { ...reached.inForce, ms } } };
  }

  /**
   * A command to each of many keys, in transactions of a few hundred; a key that is not there is left out.
   * @param announce also what changed nothing, as an earlier attempt may have ended half way; for what is to be in force
   */
  async runMany(
    keyIds: readonly string[],
    commandOf: (keyId: string) => KeyCommand,
    metadata: EventMetadata,
    announce?: Inflight,
  ): Promise<Batched> {
    // In the same order everywhere, so that two of these do not wait for each other.
    const sorted = [...new Set(keyIds)].sort();
    const done: Omit<Batched, 'published'>[] = [];
    const published: Promise<boolean>[] = [];
    for (let from = 0; from < sorted.length; from += BATCH) {
      const batch = await this.batch(sorted.slice(from, from + BATCH), commandOf, metadata, announce);
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
    commandOf: (keyId: string) => KeyCommand,
    metadata: EventMetadata,
    announce: Inflight | undefined,
  ): Promise<Omit<Batched, 'published'>> {
    const commands = new Map(keyIds.map((keyId) => [keyStream(keyId), commandOf(keyId)]));
    const { handled, refused, outbox } = await this.store.handleMany(keyDecider, commands, metadata);
    for (const error of refused.values()) requireNotFound(error);
    const done = keyIds
      .map((keyId) => ({ keyId, committed: handled.get(keyStream(keyId)) }))
      .filter(({ committed }) => committed !== undefined)
      .map(({ keyId, committed }) => ({ id: keyId, version: committed!.version, news: committed!.events.length > 0 }));
    const changed = done.filter(({ news }) => news).length;
    if (announce === undefined) return { changed, invalidations: [], outbox };
    const inflight = announce;
    const again = done.filter(({ news }) => !news).map(({ id, version }) => ({ id, version, inflight }));
    const announced = await this.em.fork().transactional((tx) =>
      enqueue(
        tx,
        again.map((invalidation) => invalidationMessage(systemId(), invalidation)),
      ),
    );
    return {
      changed,
      invalidations: done.map(({ id, version }) => ({ id, version, inflight })),
      outbox: [...outbox, ...announced],
    };
  }

  private async publish(outbox: readonly OutboxMessage[]): Promise<boolean> {
    let all = true;
    for (let from = 0; from < outbox.length; from += PUBLISH_AT_ONCE) {
      if (!(await this.relay.publish(outbox.slice(from, from + PUBLISH_AT_ONCE)))) all = false;
    }
    return all;
  }
}

function requireNotFound(error: unknown): void {
  if (!(error instanceof Rejected && error.code === 'not_found')) throw error;
}

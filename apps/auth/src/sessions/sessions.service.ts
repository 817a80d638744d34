import { createHash, randomBytes } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { MAX_TOMBSTONES, type Invalidation } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import type { EventMetadata } from '@sluice/event-sourcing';
import { EventStore, type OutboxMessage, type OutboxRelay } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { DEFAULT_PREFIXES, formatSecret, type SecretPrefixes } from '@sluice/primitives/secret';
import { auditTrail } from '../audit/audit-trail.store.js';
import type { InForceService, Reached } from '../gateways/in-force.service.js';
import { lockMember } from '../members/members.store.js';
import type { Member } from '../members/tables.js';
import { metadataOf } from '../metadata.js';
import { sessionCodec, sessionStream, type SessionEnd, type SessionEvent, type StartedSession } from './session.js';
import { sessionDecider } from './session.decider.js';
import { publishSession } from './session.publisher.js';
import {
  endedSessions,
  liveSessions,
  organizationIsActive,
  overdueSessions,
  projectSessions,
  sessionWith,
} from './sessions.store.js';

/** Of one member at once; one more ends the oldest. */
const MAX_LIVE = 100;
const SWEPT_AT_ONCE = 500;
const HOUR_MS = 3_600_000;

/** Sessions that a transaction ended: what has to be in force after its commit, and its messages. */
export interface Ended {
  readonly invalidations: readonly Invalidation[];
  readonly outbox: readonly OutboxMessage[];
}

export interface Started {
  /** The session's secret, once. */
  readonly token: string;
  readonly expiresAt: string;
  /** Older ones that this one replaced. */
  readonly ended: Ended;
}

/** Sessions of signed-in members: opaque secrets, known here by their digests, that end like keys do. */
@Injectable()
export class SessionsService {
  private readonly store: EventStore<SessionEvent>;

  constructor(
    private readonly em: EntityManager,
    private readonly relay: OutboxRelay,
    private readonly inForce: InForceService,
    private readonly clock: Clock,
    private readonly hours: number,
    private readonly prefixes: SecretPrefixes = DEFAULT_PREFIXES,
  ) {
    this.store = new EventStore({
      em,
      codec: sessionCodec,
      relay,
      projections: [projectSessions, auditTrail],
      publisher: (stored) => stored.flatMap(publishSession),
    });
  }

  /**
   * In the caller's transaction. The membership is locked until it ends: who is removed at the same time is removed before
   * this session, which is then refused, or after it, and ends it.
   * @throws Rejected `invalid_api_key` when the member is none any more, `scope_insufficient` when the organization is suspended
   */
  async start(
    tx: EntityManager,
    actor: Actor,
    memberId: string,
    method: StartedSession['method'],
  ): Promise<Started & { readonly member: Member }> {
    const member = await lockMember(tx, memberId, 'share');
    if (member?.status !== 'active') throw new Rejected('invalid_api_key', 'This membership has ended.');
    const { organization_id: organizationId } = member;
    if (!(await organizationIsActive(tx, organizationId)))
      throw new Rejected('scope_insufficient', 'The organization is suspended.');
    const live = await liveSessions(tx, [memberId]);
    const oldest = live.slice(0, Math.max(0, live.length + 1 - MAX_LIVE));
    const ended = await this.end(tx, metadataOf(actor), oldest, 'replaced');

    const token = formatSecret(this.prefixes.session, randomBytes(32));
    const now = this.clock.now();
    const sessionId = systemId();
    const session: StartedSession = {
      sessionId,
      organizationId,
      memberId,
      digest: digestOf(token),
      method,
      startedAt: rfc3339(now),
      expiresAt: rfc3339(now + this.hours * HOUR_MS),
    };
    const command = { type: 'start', session } as const;
    await this.store.handle(sessionDecider, sessionStream(sessionId), command, metadataOf(actor), { em: tx });
    return { token, expiresAt: session.expiresAt, ended, member };
  }

  /**
   * Ends every session of these memberships, in the caller's transaction, which holds them or their person.
   * @param except a session that goes on
   */
  async endAll(
    tx: EntityManager,
    metadata: EventMetadata,
    memberIds: readonly string[],
    reason: SessionEnd,
    except?: string,
  ): Promise<Ended> {
    const live = await liveSessions(tx, memberIds);
    const going = live.filter(({ session_id }) => session_id !== except);
    return this.end(tx, metadata, going, reason);
  }

  /** Logs the actor's session out. */
  logout(actor: Actor): Promise<Reached> {
    return this.endNow(actor, actor.keyId, 'logout');
  }

  /** Ends the session whose secret somebody found. @returns undefined when there is none that it could open */
  async endLeaked(actor: Actor, digest: string): Promise<Reached | undefined> {
    const sessionId = await sessionWith(this.em.fork(), digest, rfc3339(this.clock.now()));
    return sessionId === undefined ? undefined : this.endNow(actor, sessionId, 'leaked');
  }

  /**
   * After the commit: comes back when what was ended is in force, or pending. When nothing was left to end, what ended
   * before and has not expired is announced once more: the first attempt may have got as far as its commit only.
   * @param startedAt monotonic milliseconds
   */
  async reach({ invalidations, outbox }: Ended, memberIds: readonly string[], startedAt: number): Promise<Reached> {
    if (invalidations.length > 0)
      return this.inForce.reach(invalidations, { outbox, published: this.relay.publish(outbox) }, startedAt);
    const page = { notExpiredAt: rfc3339(this.clock.now()), limit: MAX_TOMBSTONES };
    const before = await endedSessions(this.em.fork(), memberIds, page);
    const again = before.map(({ session_id: id, version }) => ({ id, version, inflight: 'cut' as const }));
    return this.inForce.announceAgain(again, startedAt);
  }

  /** Records the end of sessions whose time is over; the gateways enforce it by their own clocks. */
  async recordExpired(): Promise<number> {
    const at = rfc3339(this.clock.now());
    const overdue = await overdueSessions(this.em.fork(), at, SWEPT_AT_ONCE);
    for (const sessionId of overdue) {
      const metadata = { actor: 'system:expiry', correlationId: sessionId };
      const command = { type: 'end', reason: 'expired', at } as const;
      await this.store.handle(sessionDecider, sessionStream(sessionId), command, metadata);
    }
    return overdue.length;
  }

  private async endNow(actor: Actor, sessionId: string, reason: SessionEnd): Promise<Reached> {
    const startedAt = this.clock.monotonic();
    const command = { type: 'end', reason, at: rfc3339(this.clock.now()) } as const;
    const committed = await this.store.handle(sessionDecider, sessionStream(sessionId), command, metadataOf(actor));
    const invalidations = [{ id: sessionId, version: committed.version, inflight: 'cut' as const }];
    return committed.events.length > 0
      ? this.inForce.reach(invalidations, committed, startedAt)
      : this.inForce.announceAgain(invalidations, startedAt);
  }

  private async end(
    tx: EntityManager,
    metadata: EventMetadata,
    sessions: readonly { session_id: string }[],
    reason: SessionEnd,
  ): Promise<Ended> {
    const invalidations: Invalidation[] = [];
    const outbox: OutboxMessage[] = [];
    const command = { type: 'end', reason, at: rfc3339(this.clock.now()) } as const;
    for (const { session_id: id } of sessions) {
      const ended = await this.store.handle(sessionDecider, sessionStream(id), command, metadata, { em: tx });
      invalidations.push({ id, version: ended.version, inflight: 'cut' });
      outbox.push(...ended.outbox);
    }
    return { invalidations, outbox };
  }
}

const digestOf = (secret: string): string => createHash('sha256').update(secret).digest('base64url');

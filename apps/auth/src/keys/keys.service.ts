import { createHash, randomBytes } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { InForce, RevokeReason } from '@sluice/contracts/auth';
import { fundsResponseSchema } from '@sluice/contracts/billing';
import { Rejected } from '@sluice/contracts/errors';
import { EventStore, type OutboxRelay, type StoredEvent } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { DEFAULT_PREFIXES, formatSecret, shownPrefix } from '@sluice/primitives/secret';
import type { ServiceClient } from '@sluice/service-kit';
import type { InForceService } from '../gateways/in-force.service.js';
import { metadataOf } from '../metadata.js';
import { stableId } from '../stable-id.js';
import { keyCodec, keyStream, type IssuedKey, type KeyEvent } from './key.js';
import { keyDecider } from './key.decider.js';
import { KeyRow, type Key } from './key.entity.js';
import { creditKeySettings, type CreditKeyRequest } from './key-requests.js';
import { projectKey } from './key.projection.js';
import { publishKey } from './key.publisher.js';

export interface IssuedSecret {
  readonly key: IssuedKey;
  /** The secret, once; undefined on a repeated creation. */
  readonly secret: string | undefined;
}

export type Revoked = { readonly inForce: InForce } | { readonly pending: true };

type Kind = IssuedKey['kind'];

/** Issuing, listing and revoking keys. */
@Injectable()
export class KeysService {
  private readonly store: EventStore<KeyEvent>;

  constructor(
    private readonly em: EntityManager,
    relay: OutboxRelay,
    private readonly inForce: InForceService,
    private readonly billing: ServiceClient,
    private readonly clock: Clock,
  ) {
    this.store = new EventStore({
      em,
      codec: keyCodec,
      relay,
      projections: [projectKeys],
      publisher: (stored) => stored.flatMap(publishKey),
    });
  }

  /** @throws Rejected `insufficient_credit`, `scope_not_allowed`, `project_scope_mismatch`, `unavailable` */
  async issueCredit(
    actor: Actor,
    organizationId: string,
    request: CreditKeyRequest,
    idempotencyKey?: string,
  ): Promise<IssuedSecret> {
    const settings = creditKeySettings(request, actor.project, this.clock.now());
    const path = `/internal/funds/${encodeURIComponent(organizationId)}`;
    const { available } = await this.billing.ask({ method: 'GET', path }, fundsResponseSchema);
    if (BigInt(available) <= 0n) throw new Rejected('insufficient_credit');
    return this.issue(actor, 'credit', { organizationId, ...settings }, idempotencyKey);
  }

  async issueManagement(
    actor: Actor,
    { organizationId, project, name }: { organizationId: string; project: string | null; name: string },
    idempotencyKey?: string,
  ): Promise<IssuedSecret> {
    const bare = {
      description: null,
      tags: [],
      scopes: ['admin' as const],
      access: [],
      models: null,
      rpm: null,
      expiresAt: null,
    };
    return this.issue(actor, 'management', { ...bare, organizationId, project, name }, idempotencyKey);
  }

  /** An operator credential that exists from the start; the same digest is the same key. */
  async ensureOperator(digest: string): Promise<void> {
    const keyId = stableId(`operator:${digest}`);
    const key: IssuedKey = {
      keyId,
      kind: 'operator',
      organizationId: null,
      project: null,
      name: 'operator',
      description: null,
      tags: [],
      digest,
      keyPrefix: DEFAULT_PREFIXES.operator,
      scopes: ['admin'],
      access: [],
      models: null,
      rpm: null,
      expiresAt: null,
      issuedAt: rfc3339(this.clock.now()),
    };
    await this.store.handle(
      keyDecider,
      keyStream(keyId),
      { type: 'issue', key },
      { actor: 'system:bootstrap', correlationId: keyId },
    );
  }

  async list(
    organizationId: string,
    kinds: Kind[],
    project: string | null,
    page: { limit: number; after?: string | undefined },
  ): Promise<Key[]> {
    const where = {
      organizationId,
      kind: { $in: kinds },
      status: 'active',
      ...(project === null ? {} : { project }),
      ...(page.after === undefined ? {} : { keyId: { $gt: page.after } }),
    };
    // Ids of version 7 sort by time: the order of creation.
    return this.em.fork().find(KeyRow, where, { orderBy: { keyId: 'asc' }, limit: page.limit });
  }

  /** @throws Rejected `not_found`: also for a key of somebody else */
  async get(organizationId: string, keyId: string, kinds: Kind[], project: string | null): Promise<Key> {
    const row = await this.em.fork().findOne(KeyRow, { keyId, organizationId, kind: { $in: kinds } });
    if (!row || (project !== null && row.project !== project)) throw new Rejected('not_found', 'There is no such key.');
    return row;
  }

  /**
   * Revokes and comes back when the revocation is in force at every gateway, or says that it is pending. A repetition
   * runs the whole procedure again: the first one may have ended half way.
   * @throws Rejected `not_found`
   */
  async revoke(actor: Actor, key: Key, reason: RevokeReason): Promise<Revoked> {
    const startedAt = this.clock.monotonic();
    const committed = await this.store.handle(
      keyDecider,
      keyStream(key.keyId),
      { type: 'revoke', reason, at: rfc3339(this.clock.now()) },
      metadataOf(actor),
    );
    const invalidations = [{ id: key.keyId, version: committed.version, inflight: 'cut' as const }];
    return committed.events.length > 0
      ? this.inForce.reach(invalidations, committed, startedAt)
      : this.inForce.announceAgain(invalidations, startedAt);
  }

  async findByDigest(digest: string): Promise<Key | null> {
    return this.em.fork().findOne(KeyRow, { digest });
  }

  private async issue(
    actor: Actor,
    kind: 'credit' | 'management',
    settings: Omit<IssuedKey, 'keyId' | 'kind' | 'digest' | 'keyPrefix' | 'issuedAt'>,
    idempotencyKey: string | undefined,
  ): Promise<IssuedSecret> {
    const prefix = DEFAULT_PREFIXES[kind];
    const secret = formatSecret(prefix, randomBytes(32));
    const scope = `${settings.organizationId}:${actor.keyId}:${kind}`;
    const keyId = idempotencyKey === undefined ? systemId() : stableId(`${scope}:${idempotencyKey}`);
    const key: IssuedKey = {
      ...settings,
      keyId,
      kind,
      digest: digestOf(secret),
      keyPrefix: shownPrefix(secret, prefix),
      issuedAt: rfc3339(this.clock.now()),
    };
    const { state, events } = await this.store.handle(
      keyDecider,
      keyStream(keyId),
      { type: 'issue', key },
      metadataOf(actor),
    );
    if (state.status !== 'active') throw new Rejected('conflict', 'The key of this Idempotency-Key was revoked.');
    if (events.length === 0 && !sameRequest(state.issued, key)) {
      throw new Rejected('conflict', 'This Idempotency-Key was used for another request.');
    }
    return { key: state.issued, secret: events.length > 0 ? secret : undefined };
  }
}

async function projectKeys(em: EntityManager, events: readonly StoredEvent<KeyEvent>[]): Promise<void> {
  for (const { streamId, event, version } of events) {
    const keyId = streamId.slice('key-'.length);
    const row = (await em.findOne(KeyRow, { keyId })) ?? undefined;
    const next = projectKey(row, event, version);
    if (!next) continue;
    if (row) em.assign(row, next);
    else em.create(KeyRow, next);
    await em.flush();
  }
}

const digestOf = (secret: string): string => createHash('sha256').update(secret).digest('base64url');

/** Was the same asked for? What is made anew each time, and an expiry counted from now, may differ. */
const sameRequest = (one: IssuedKey, other: IssuedKey): boolean =>
  (['name', 'project', 'description', 'tags', 'scopes', 'access', 'models', 'rpm'] as const).every(
    (field) => JSON.stringify(one[field]) === JSON.stringify(other[field]),
  );

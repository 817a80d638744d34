import { createHash, randomBytes } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { Invalidation, PreviousUse } from '@sluice/contracts/auth';
import { fundsResponseSchema, subscriptionsResponseSchema, type Subscription } from '@sluice/contracts/billing';
import { Rejected } from '@sluice/contracts/errors';
import type { EventMetadata } from '@sluice/event-sourcing';
import type { OutboxRelay } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import {
  DEFAULT_PREFIXES,
  formatSecret,
  parseSecret,
  shownPrefix,
  type SecretPrefixes,
} from '@sluice/primitives/secret';
import type { ServiceClient } from '@sluice/service-kit';
import type { InForceService, Reached } from '../gateways/in-force.service.js';
import { metadataBy, metadataOf, type SystemActor } from '../metadata.js';
import { OrganizationRow } from '../organizations/organization.entity.js';
import { stableId } from '../stable-id.js';
import { keepSubscription } from '../subscriptions/subscriptions.store.js';
import { KeyCommands } from './key-commands.service.js';
import {
  chosenSubscription,
  creditKey,
  managementKey,
  operatorKey,
  sameRequest,
  subscriptionKey,
  type ManagementSettings,
  type NewKey,
  type SubscriptionSettings,
} from './key-issuing.js';
import type { SubscriptionNews } from './key.decider.js';
import { given, type EndReason, type IssuedKey, type KeyKind, type KeyPatch } from './key.js';
import { KeyRow, type Key } from './key.entity.js';
import { creditKeySettings, type CreditKeyRequest } from './key-requests.js';
import { getKey, keysDue, listKeys, presentedKey, unknownUses, type Page, type PresentedKey } from './keys.store.js';

export interface IssuedSecret {
  readonly key: Key;
  /** The secret, once; undefined on a repetition. */
  readonly secret: string | undefined;
}

type By = Actor | SystemActor;
type Ref = Pick<Key, 'keyId' | 'organizationId'>;
interface WriteOptions {
  /** The version that the key has to be at. */
  readonly ifMatch?: number | undefined;
  readonly inflight?: Invalidation['inflight'] | undefined;
}

/** Fields that only people read: nothing rests on them at a gateway. */
const DESCRIPTIVE: ReadonlySet<string> = new Set(['name', 'description', 'tags']);

/** The whole life of keys. */
@Injectable()
export class KeysService {
  private readonly commands: KeyCommands;

  constructor(
    private readonly em: EntityManager,
    relay: OutboxRelay,
    inForce: InForceService,
    private readonly billing: ServiceClient,
    private readonly clock: Clock,
    private readonly prefixes: SecretPrefixes = DEFAULT_PREFIXES,
  ) {
    this.commands = new KeyCommands(em, relay, inForce, clock);
  }

  /** @throws Rejected `insufficient_credit`, `scope_not_allowed`, `project_scope_mismatch`, `conflict`, `unavailable` */
  async issueCredit(
    actor: Actor,
    organizationId: string,
    request: CreditKeyRequest,
    idempotencyKey?: string,
  ): Promise<IssuedSecret> {
    const key = creditKey(organizationId, creditKeySettings(request, actor.project, this.clock.now()));
    const keyId = this.newId(actor, key, idempotencyKey);
    // A repetition gets its answer, whatever became of the balance.
    if (idempotencyKey === undefined || !(await this.exists(keyId))) {
      const path = `/internal/funds/${encodeURIComponent(organizationId)}`;
      const { available } = await this.billing.ask({ method: 'GET', path }, fundsResponseSchema);
      if (BigInt(available) <= 0n) throw new Rejected('insufficient_credit');
    }
    return this.issue(actor, keyId, key);
  }

  /** @throws Rejected `scope_not_allowed`, `scope_insufficient`, `project_scope_mismatch`, `conflict` */
  async issueManagement(actor: Actor, settings: ManagementSettings, idempotencyKey?: string): Promise<IssuedSecret> {
    const key = managementKey(actor, settings);
    return this.issue(actor, this.newId(actor, key, idempotencyKey), key);
  }

  /** @throws Rejected `no_active_subscription`, `conflict`, `unavailable` */
  async issueSubscription(
    actor: Actor,
    organizationId: string,
    { subscriptionId, ...settings }: SubscriptionSettings & { subscriptionId?: string | undefined },
    idempotencyKey?: string,
  ): Promise<IssuedSecret> {
    const said = await this.subscriptions(organizationId);
    const subscription = chosenSubscription(said, subscriptionId, this.clock.now());
    // Its event may come later than the first request on the key.
    await keepSubscription(this.em.fork(), subscription);
    const ordinal = 1 + (await this.em.fork().count(KeyRow, { organizationId, subscriptionId: subscription.id }));
    const key = subscriptionKey(organizationId, subscription, settings, ordinal);
    return this.issue(actor, this.newId(actor, key, idempotencyKey), key, settings.name === undefined);
  }

  async issueOperator(actor: Actor, { name }: { name: string }, idempotencyKey?: string): Promise<IssuedSecret> {
    const key = operatorKey(name);
    return this.issue(actor, this.newId(actor, key, idempotencyKey), key);
  }

  /** An operator credential that exists from the start; the same digest is the same key. */
  async ensureOperator(digest: string): Promise<void> {
    const keyId = stableId(`operator:${digest}`);
    const issuedAt = this.now();
    const key: IssuedKey = {
      ...operatorKey('operator'),
      keyId,
      digest,
      keyPrefix: this.prefixes.operator,
      createdBy: null,
      issuedAt,
    };
    await this.commands.run(keyId, { type: 'issue', key }, { actor: 'system:bootstrap', correlationId: keyId });
  }

  /** Has a text the form of one of this platform's secrets? */
  isSecret(text: string): boolean {
    return parseSecret(text, this.prefixes) !== undefined;
  }

  /** Those that are not deleted. */
  list(organizationId: string | null, kinds: readonly KeyKind[], project: string | null, page: Page): Promise<Key[]> {
    return listKeys(this.em.fork(), organizationId, kinds, project, page);
  }

  /** Also a deleted one: its deletion may have to be asked for again. @throws Rejected `not_found` */
  get(organizationId: string | null, keyId: string, kinds: readonly KeyKind[], project: string | null): Promise<Key> {
    return getKey(this.em.fork(), organizationId, keyId, kinds, project);
  }

  /** Whose secret this is: the current one or one in its grace, of a key in whatever state. */
  findByDigest(digest: string): Promise<PresentedKey | undefined> {
    return presentedKey(this.em.fork(), digest);
  }

  /**
   * Changes settings and deactivates or reactivates. `reached` is there when something was set that gateways go by: then
   * it comes back when that is in force, wider or narrower.
   * @throws Rejected `not_found`, `conflict`, `precondition_failed`, `invalid_request`
   */
  async update(
    actor: Actor,
    key: Ref,
    patch: KeyPatch,
    { ifMatch, inflight = 'cut' }: WriteOptions = {},
  ): Promise<{ key: Key; reached?: Reached }> {
    const startedAt = this.clock.monotonic();
    const immutableNames = patch.name !== undefined && (await this.keepsNames(key.organizationId));
    const committed = await this.commands.run(
      key.keyId,
      { type: 'update', patch, immutableNames, inflight, expectedVersion: ifMatch, at: this.now() },
      metadataOf(actor),
    );
    const deactivated = patch.isActive === false;
    // A reactivation too: a gateway remembers for a moment that the key was refused.
    const counts = Object.keys(given(patch)).some((field) => !DESCRIPTIVE.has(field));
    const reached = counts
      ? await this.commands.reach(key.keyId, committed, deactivated ? inflight : 'drain', startedAt)
      : undefined;
    return { key: await this.row(key.keyId), ...(reached === undefined ? {} : { reached }) };
  }

  /**
   * A new secret for the same key; the old one ends now, or after its grace. Comes back when that is in force.
   * @throws Rejected `not_found`, `conflict`, `precondition_failed`, `invalid_request`
   */
  async rotate(
    actor: Actor,
    key: Ref & Pick<Key, 'kind'>,
    {
      graceSeconds,
      idempotencyKey,
      expiresAt,
    }: { graceSeconds: number; idempotencyKey?: string | undefined; expiresAt?: string | null | undefined },
    { ifMatch }: Pick<WriteOptions, 'ifMatch'> = {},
  ): Promise<IssuedSecret & { reached: Reached }> {
    const startedAt = this.clock.monotonic();
    const { secret, digest, keyPrefix } = newSecret(this.prefixes[key.kind]);
    const rotationId =
      idempotencyKey === undefined ? systemId() : stableId(`rotate:${key.keyId}:${maker(actor)}:${idempotencyKey}`);
    const committed = await this.commands.run(
      key.keyId,
      {
        type: 'rotate',
        rotationId,
        digest,
        keyPrefix,
        graceSeconds,
        expiresAt,
        expectedVersion: ifMatch,
        at: this.now(),
      },
      metadataOf(actor),
    );
    const reached = await this.commands.reach(key.keyId, committed, graceSeconds === 0 ? 'cut' : 'drain', startedAt);
    return { key: await this.row(key.keyId), secret: committed.events.length > 0 ? secret : undefined, reached };
  }

  /**
   * Ends a key and comes back when that is in force at every gateway, or says that it is pending. A repetition runs the
   * whole procedure again.
   * @throws Rejected `not_found`, `precondition_failed`
   */
  async revoke(
    actor: By,
    { keyId }: Pick<Key, 'keyId'>,
    reason: Exclude<EndReason, 'expired'>,
    { inflight = 'cut', ifMatch }: WriteOptions = {},
  ): Promise<Reached> {
    const startedAt = this.clock.monotonic();
    const command = { type: 'revoke', reason, inflight, expectedVersion: ifMatch, at: this.now() } as const;
    const committed = await this.commands.run(keyId, command, metadataBy(actor));
    return this.commands.reach(keyId, committed, inflight, startedAt);
  }

  /** Ends many keys: a few hundred per transaction, one procedure for all. A repetition goes on where it ended. */
  async revokeMany(
    actor: By,
    keys: readonly Pick<Key, 'keyId'>[],
    reason: Exclude<EndReason, 'expired'>,
    inflight: Invalidation['inflight'] = 'cut',
  ): Promise<{ revoked: number; reached: Reached }> {
    const ids = keys.map(({ keyId }) => keyId);
    const command = { type: 'revoke', reason, inflight, at: this.now() } as const;
    const { changed, reached } = await this.commands.revokeMany(ids, command, metadataBy(actor));
    return { revoked: changed, reached };
  }

  /** Tells the keys of a subscription what changed of it, so that every gateway asks for them anew. */
  async noteSubscription(keyIds: readonly string[], news: SubscriptionNews, metadata: EventMetadata): Promise<void> {
    const { version, status, goodUntil } = news;
    const command = { type: 'note-subscription', version, status, goodUntil, at: this.now() } as const;
    await this.commands.runMany(keyIds, () => command, metadata);
  }

  /** Tells keys of the suspension of their organization, or its end. In force it is by the organization's invalidation. */
  async setSuspended(keyIds: readonly string[], suspended: boolean, metadata: EventMetadata): Promise<void> {
    const command = { type: suspended ? 'suspend' : 'resume', at: this.now() } as const;
    await this.commands.runMany(keyIds, () => command, metadata);
  }

  /** Records ends that have come and warnings that are due. @returns how many keys were due, at most `limit` */
  async recordDue(limit: number): Promise<number> {
    const at = this.now();
    const due = await keysDue(this.em.fork(), at, limit);
    const metadata = { actor: 'system:expiry', correlationId: systemId() };
    await this.commands.runMany(due, () => ({ type: 'expire', at }), metadata);
    await this.commands.runMany(due, () => ({ type: 'warn-expiring', at }), metadata);
    return due.length;
  }

  /** Secrets in their grace that gateways saw in use; once per rotation and day an event. */
  async notePreviousUses(uses: readonly PreviousUse[]): Promise<void> {
    // A gateway's clock may be ahead; a day that has not begun would hide the uses of today.
    const now = this.now();
    const commands = new Map(
      uses.map(({ keyId, previousUntil, usedAt }) => [
        keyId,
        { type: 'note-previous-use', previousUntil, at: usedAt < now ? usedAt : now } as const,
      ]),
    );
    const unknown = await unknownUses(this.em.fork(), commands);
    const metadata = { actor: 'service:gateway', correlationId: systemId() };
    await this.commands.runMany(unknown, (keyId) => commands.get(keyId)!, metadata);
  }

  private async issue(actor: Actor, keyId: string, settings: NewKey, madeName = false): Promise<IssuedSecret> {
    const { secret, digest, keyPrefix } = newSecret(this.prefixes[settings.kind]);
    const createdBy = { memberId: actor.memberId, keyId: actor.kind === 'session' ? null : actor.keyId };
    const key: IssuedKey = { ...settings, keyId, digest, keyPrefix, createdBy, issuedAt: this.now() };
    const { state, events } = await this.commands.run(keyId, { type: 'issue', key }, metadataOf(actor));
    if (state.status === 'none' || (events.length === 0 && !sameRequest(state.issued, key, madeName))) {
      throw new Rejected('conflict', 'This Idempotency-Key was used for another request.');
    }
    if (state.status !== 'active') throw new Rejected('conflict', 'The key of this Idempotency-Key has ended.');
    return { key: await this.row(keyId), secret: events.length > 0 ? secret : undefined };
  }

  /** The same for a repetition: what makes it meet itself. */
  private newId(actor: Actor, { organizationId, kind }: NewKey, idempotencyKey: string | undefined): string {
    if (idempotencyKey === undefined) return systemId();
    return stableId(`${organizationId}:${maker(actor)}:${kind}:${idempotencyKey}`);
  }

  private async exists(keyId: string): Promise<boolean> {
    return (await this.em.fork().count(KeyRow, { keyId })) > 0;
  }

  private row(keyId: string): Promise<Key> {
    return this.em.fork().findOneOrFail(KeyRow, { keyId });
  }

  private async keepsNames(organizationId: string | null | undefined): Promise<boolean> {
    if (organizationId == null) return false;
    const row = await this.em.fork().findOne(OrganizationRow, { organizationId });
    return row?.settings.immutableKeyNames ?? false;
  }

  /** Billing without subscriptions has none that is active. */
  private async subscriptions(organizationId: string): Promise<readonly Subscription[]> {
    const path = `/internal/subscriptions/${encodeURIComponent(organizationId)}`;
    try {
      return (await this.billing.ask({ method: 'GET', path }, subscriptionsResponseSchema)).data;
    } catch (error) {
      if (error instanceof Rejected && error.code === 'not_found') return [];
      throw error;
    }
  }

  private now(): string {
    return rfc3339(this.clock.now());
  }
}

/** Whose Idempotency-Keys these are: of a member whatever session it comes by. */
const maker = ({ memberId, keyId }: Actor): string => memberId ?? keyId;

function newSecret(prefix: string): { secret: string; digest: string; keyPrefix: string } {
  const secret = formatSecret(prefix, randomBytes(32));
  const digest = createHash('sha256').update(secret).digest('base64url');
  return { secret, digest, keyPrefix: shownPrefix(secret, prefix) };
}

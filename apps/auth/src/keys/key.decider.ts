import { Rejected } from '@sluice/contracts/errors';
import type { Invalidation } from '@sluice/contracts/auth';
import type { Decider } from '@sluice/event-sourcing';
import {
  evolve,
  given,
  SETTINGS,
  type EndReason,
  type ExistingKey,
  type IssuedKey,
  type KeyEvent,
  type KeyPatch,
  type KeySettings,
  type KeyState,
  type KeyStatus,
} from './key.js';

/** Of a write with `If-Match`: the version that the key has to be at, unless the write is honoured already. */
interface Conditional {
  readonly expectedVersion?: number | undefined;
}
type At = { readonly at: string };

export type KeyCommand =
  | { readonly type: 'issue'; readonly key: IssuedKey }
  | ({
      readonly type: 'update';
      readonly patch: KeyPatch;
      /** Whether the organization keeps the names of its keys. */
      readonly immutableNames: boolean;
      readonly inflight: Invalidation['inflight'];
    } & Conditional &
      At)
  | ({
      readonly type: 'rotate';
      readonly rotationId: string;
      readonly digest: string;
      readonly keyPrefix: string;
      readonly graceSeconds: number;
      /** A new end, if it is given. */
      readonly expiresAt?: string | null | undefined;
    } & Conditional &
      At)
  | ({
      readonly type: 'revoke';
      readonly reason: Exclude<EndReason, 'expired'>;
      readonly inflight: Invalidation['inflight'];
    } & Conditional &
      At)
  /** By the clock: its end has come; or it comes within 14, 3 or 1 days. */
  | ({ readonly type: 'expire' | 'warn-expiring' } & At)
  /** The secret whose grace ends then was used. */
  | ({ readonly type: 'note-previous-use'; readonly previousUntil: string } & At)
  | ({ readonly type: 'suspend' | 'resume' } & At)
  /** Billing said of its subscription what gateways go by. */
  | ({ readonly type: 'note-subscription' } & SubscriptionNews & At);

/** What changed of a subscription, as its keys are told. */
export interface SubscriptionNews {
  readonly version: number;
  readonly status: string;
  readonly goodUntil: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const WARNINGS = [1, 3, 14] as const;

/** An end may follow one of a lower rank: what is deactivated can still be deleted, what is leaked not be deactivated. */
const RANK: Readonly<Record<KeyStatus, number>> = {
  active: 0,
  deactivated: 1,
  expired: 2,
  leaked: 2,
  subscription_ended: 2,
  deleted: 3,
};

/** What a reserved block decides, a subscription's key does not. */
const NOT_OF_SUBSCRIPTIONS = ['rpm', 'tpm', 'concurrency', 'priority', 'maxBudget', 'budgetReset'] as const;

export const keyDecider: Decider<KeyCommand, KeyState, KeyEvent> = {
  initial: { status: 'none' },
  evolve,
  decide(command, state) {
    // A repeated creation (same idempotency key, so same id) is honoured already; its secret is not shown again.
    if (command.type === 'issue') {
      return state.status === 'none' ? [{ type: 'KeyIssued', data: command.key }] : [];
    }
    if (state.status === 'none') throw new Rejected('not_found', 'There is no such key.');
    const events = decideExisting(command, state);
    const expected = 'expectedVersion' in command ? command.expectedVersion : undefined;
    // A retry of what was done meets another version and is honoured all the same.
    if (events.length > 0 && expected !== undefined && expected !== state.version) {
      throw new Rejected('precondition_failed');
    }
    return events;
  },
};

function decideExisting(command: Exclude<KeyCommand, { type: 'issue' }>, state: ExistingKey): readonly KeyEvent[] {
  const { at } = command;
  const about = whose(state);
  switch (command.type) {
    case 'update':
      return update(command, state);
    case 'rotate':
      return rotate(command, state);
    case 'revoke':
      return end(state, command.reason, command.inflight, at);
    case 'expire':
      return isOver(state, at) ? end(state, 'expired', 'cut', at) : [];
    case 'warn-expiring':
      return warn(state, at);
    case 'note-previous-use':
      return notePreviousUse(state, command.previousUntil, at);
    case 'suspend':
      if (state.suspended || RANK[state.status] > RANK.deactivated) return [];
      return [{ type: 'KeySuspended', data: { ...about, active: state.status === 'active', suspendedAt: at } }];
    case 'resume':
      if (!state.suspended) return [];
      return [
        { type: 'KeyResumed', data: { ...about, active: isUsable({ ...state, suspended: false }, at), resumedAt: at } },
      ];
    case 'note-subscription': {
      const { version: subscriptionVersion, status, goodUntil } = command;
      // On one that is not active nothing rests at a gateway, and it is looked up anew when it is again.
      if (state.status !== 'active' || subscriptionVersion <= state.subscriptionVersion) return [];
      const data = { ...about, subscriptionVersion, status, goodUntil, changedAt: at };
      return [{ type: 'KeySubscriptionChanged', data }];
    }
    default:
      return [];
  }
}

function update(command: Extract<KeyCommand, { type: 'update' }>, state: ExistingKey): readonly KeyEvent[] {
  const { patch, at } = command;
  requireAlive(state, at);
  const { isActive, ...settings } = patch;
  const wanted = given(settings);
  const changes: Partial<KeySettings> = Object.fromEntries(
    SETTINGS.filter((field) => field in wanted && !same(wanted[field], state.settings[field])).map((field) => [
      field,
      wanted[field],
    ]),
  );
  if (changes.name !== undefined && command.immutableNames) {
    throw new Rejected('conflict', 'This organization keeps the names of its keys.', { param: 'name' });
  }
  if (changes.expiresAt != null && changes.expiresAt <= at) {
    throw new Rejected('invalid_request', 'expiresAt is in the past.', { param: 'expiresAt' });
  }
  const notHere = NOT_OF_SUBSCRIPTIONS.find((field) => field in changes);
  if (notHere !== undefined && state.issued.kind === 'subscription') {
    throw new Rejected('invalid_request', `The key of a subscription has no ${notHere} of its own.`, {
      param: notHere,
    });
  }
  const events: KeyEvent[] = [];
  if (Object.keys(changes).length > 0) {
    const name = changes.name ?? state.settings.name;
    events.push({ type: 'KeyUpdated', data: { ...whose(state), name, changes, updatedAt: at } });
  }
  if (isActive === false) events.push(...end(state, 'deactivated', command.inflight, at));
  // Whose organization is suspended has no credential to come here with: a mark of it is one that was not taken off yet.
  if (isActive === true && state.status === 'deactivated')
    events.push({ type: 'KeyReactivated', data: { ...whose(state), active: !state.suspended, reactivatedAt: at } });
  return events;
}

function rotate(command: Extract<KeyCommand, { type: 'rotate' }>, state: ExistingKey): readonly KeyEvent[] {
  const { rotationId, digest, keyPrefix, graceSeconds, expiresAt, at } = command;
  const done = state.rotations[rotationId];
  if (done !== undefined && done !== graceSeconds) {
    throw new Rejected('conflict', 'This Idempotency-Key was used for another request.');
  }
  if (done !== undefined) return [];
  requireAlive(state, at);
  // Suspended or not, as in `update`.
  if (state.status !== 'active') throw new Rejected('conflict', 'Only an active key can be rotated.');
  const events: KeyEvent[] = [
    {
      type: 'KeyRotated',
      data: {
        ...whose(state),
        keyPrefix,
        rotationId,
        digest,
        graceSeconds,
        previousDigest: state.digest,
        previousKeyPrefix: state.keyPrefix,
        previousUntil: graceSeconds === 0 ? null : after(at, graceSeconds * 1000),
        rotatedAt: at,
      },
    },
  ];
  if (expiresAt !== undefined && expiresAt !== state.settings.expiresAt) {
    if (expiresAt !== null && expiresAt <= at) {
      throw new Rejected('invalid_request', 'The key would be over already.', { param: 'expiresAt' });
    }
    const { name } = state.settings;
    events.push({
      type: 'KeyUpdated',
      data: { ...whose(state), keyPrefix, name, changes: { expiresAt }, updatedAt: at },
    });
  }
  return events;
}

function end(
  state: ExistingKey,
  reason: EndReason,
  inflight: Invalidation['inflight'],
  at: string,
): readonly KeyEvent[] {
  if (RANK[reason] <= RANK[state.status]) return [];
  return [{ type: 'KeyRevoked', data: { ...whose(state), reason, inflight, revokedAt: at } }];
}

/** Each warning once, the nearest one only: who issues a key for two days hears of it with 3. */
function warn(state: ExistingKey, at: string): readonly KeyEvent[] {
  const { expiresAt, name } = state.settings;
  if (expiresAt === null || !isUsable(state, at)) return [];
  const days = WARNINGS.find((days) => expiresAt <= after(at, days * DAY_MS));
  if (days === undefined || (state.warned !== null && state.warned <= days)) return [];
  return [{ type: 'KeyExpiring', data: { ...whose(state), name, days, expiresAt } }];
}

function notePreviousUse(state: ExistingKey, previousUntil: string, at: string): readonly KeyEvent[] {
  const { previous } = state;
  const day = at.slice(0, 'yyyy-mm-dd'.length);
  // A report that is late: of a secret that is gone since, or of a date before one that is recorded.
  if (previous?.until !== previousUntil || (previous.usedOn !== null && day <= previous.usedOn)) return [];
  const { rotationId, keyPrefix: previousKeyPrefix } = previous;
  return [
    {
      type: 'KeyPreviousSecretUsed',
      data: { ...whose(state), rotationId, day, previousKeyPrefix, previousUntil, usedAt: at },
    },
  ];
}

/** @throws Rejected `conflict` for a key that has ended for good, by its date too when nobody recorded that yet */
function requireAlive(state: ExistingKey, at: string): void {
  const ended = RANK[state.status] > RANK.deactivated ? state.status : isOver(state, at) ? 'expired' : undefined;
  if (ended !== undefined) throw new Rejected('conflict', `This key has ended: ${ended}.`);
}

const isOver = ({ settings: { expiresAt } }: ExistingKey, at: string): boolean => expiresAt !== null && expiresAt <= at;

const isUsable = (state: ExistingKey, at: string): boolean =>
  state.status === 'active' && !state.suspended && !isOver(state, at);

const whose = ({ issued: { keyId, organizationId, project }, keyPrefix }: ExistingKey) => ({
  keyId,
  organizationId,
  project,
  keyPrefix,
});

/** RFC 3339 in UTC with milliseconds sorts as text. */
const after = (at: string, milliseconds: number): string => new Date(Date.parse(at) + milliseconds).toISOString();

const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

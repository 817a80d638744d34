import { eventCodec, type EventsOf } from '@sluice/event-sourcing';
import { budgetResetSchema, revokeReasonSchema, scopeSchema, type RevokeReason } from '@sluice/contracts/auth';
import { z } from 'zod';

const time = z.iso.datetime();
/** base64url SHA-256 of a secret. */
const digest = z.string().length(43);
const count = z.number().int().positive().nullable();

/** What of a key can be changed later. What came after the first keys is null in their events. */
const settings = z.object({
  name: z.string(),
  description: z.string().nullable(),
  tags: z.array(z.string()),
  /** `<project>/<workload>` or `<project>/*`. */
  access: z.array(z.string()),
  models: z.array(z.string()).nullable(),
  /** Addresses and CIDR blocks. */
  ipAllow: z.array(z.string()).nullable().default(null),
  expiresAt: time.nullable(),
  rpm: count,
  tpm: count.default(null),
  concurrency: count.default(null),
  priority: z.number().int().min(0).max(9).nullable().default(null),
  /** Pico-USD. */
  maxBudget: z
    .string()
    .regex(/^\d{1,38}$/)
    .nullable()
    .default(null),
  budgetReset: budgetResetSchema.nullable().default(null),
});
export type KeySettings = z.output<typeof settings>;

/** A change without the defaults: what is not in it stays. */
const changes = z.object({
  ...settings.shape,
  ipAllow: settings.shape.ipAllow.unwrap(),
  tpm: count,
  concurrency: count,
  priority: settings.shape.priority.unwrap(),
  maxBudget: settings.shape.maxBudget.unwrap(),
  budgetReset: settings.shape.budgetReset.unwrap(),
});

/** Repeated in every event, so that what is published or audited of it needs no look-up. */
const whose = {
  keyId: z.string(),
  organizationId: z.string().nullable(),
  project: z.string().nullable(),
  /** Of the secret that is the current one after the event. */
  keyPrefix: z.string(),
};

/** How the events of a key are stored. A storage format: never changed, only added to. No secrets: a digest at most. */
export const keyEvents = {
  KeyIssued: z.object({
    ...whose,
    ...settings.shape,
    kind: z.enum(['credit', 'subscription', 'management', 'operator']),
    digest,
    scopes: z.array(scopeSchema),
    subscriptionId: z.string().nullable().default(null),
    /** The member, or the key, that made it. */
    createdBy: z.object({ memberId: z.string().nullable(), keyId: z.string().nullable() }).nullable().default(null),
    issuedAt: time,
  }),
  KeyUpdated: z.object({ ...whose, name: z.string(), changes: changes.partial(), updatedAt: time }),
  KeyRotated: z.object({
    ...whose,
    /** Made from the Idempotency-Key of the request: the same rotation is not done twice. */
    rotationId: z.string(),
    digest,
    graceSeconds: z.number().int().nonnegative(),
    previousDigest: digest,
    previousKeyPrefix: z.string(),
    /** null: the previous secret ended at once, as every older one did. */
    previousUntil: time.nullable(),
    rotatedAt: time,
  }),
  KeyPreviousSecretUsed: z.object({
    ...whose,
    rotationId: z.string(),
    /** The UTC date of the use. */
    day: z.iso.date(),
    previousKeyPrefix: z.string(),
    previousUntil: time,
    usedAt: time,
  }),
  /** Every end of a key, the one that can be undone (`deactivated`) too. */
  KeyRevoked: z.object({
    ...whose,
    reason: revokeReasonSchema,
    inflight: z.enum(['cut', 'drain']).default('cut'),
    revokedAt: time,
  }),
  /** `active`: false while the key is not told yet that a suspension of its organization is over. That tells others. */
  KeyReactivated: z.object({ ...whose, active: z.boolean().default(true), reactivatedAt: time }),
  KeyExpiring: z.object({
    ...whose,
    name: z.string(),
    days: z.union([z.literal(14), z.literal(3), z.literal(1)]),
    expiresAt: time,
  }),
  /** `active`: whether the key could be used but for the suspension of its organization. */
  KeySuspended: z.object({ ...whose, active: z.boolean(), suspendedAt: time }),
  KeyResumed: z.object({ ...whose, active: z.boolean(), resumedAt: time }),
  /** Its subscription, as it is from this version of it on. */
  KeySubscriptionChanged: z.object({
    ...whose,
    subscriptionVersion: z.number().int().positive(),
    status: z.string(),
    goodUntil: time,
    changedAt: time,
  }),
} as const;

export const keyCodec = eventCodec(keyEvents);
export type KeyEvent = EventsOf<typeof keyEvents>;
export type IssuedKey = z.output<(typeof keyEvents)['KeyIssued']>;
export type KeyKind = IssuedKey['kind'];

/** What ends a key itself; a suspension is of its organization. */
export type EndReason = Exclude<RevokeReason, 'organization_suspended'>;
export type KeyStatus = 'active' | EndReason;

/** A secret in its grace. */
export interface PreviousSecret {
  readonly rotationId: string;
  readonly keyPrefix: string;
  readonly until: string;
  /** The last date (UTC) of which a use is recorded. */
  readonly usedOn: string | null;
}

export interface ExistingKey {
  readonly status: KeyStatus;
  /** What it was told last of its organization, which is minutes late where there are many keys. */
  readonly suspended: boolean;
  /** As it was issued, which a repeated creation is compared with. */
  readonly issued: IssuedKey;
  readonly settings: KeySettings;
  readonly digest: string;
  readonly keyPrefix: string;
  readonly previous: PreviousSecret | null;
  /** Rotations that were done: id → seconds of grace. */
  readonly rotations: Readonly<Record<string, number>>;
  /** The last warning before its end, in days. */
  readonly warned: number | null;
  /** Of its subscription, as it was told last; 0: never. */
  readonly subscriptionVersion: number;
  readonly version: number;
}
export type KeyState = { readonly status: 'none' } | ExistingKey;

export function evolve(state: KeyState, event: KeyEvent): KeyState {
  if (event.type === 'KeyIssued') {
    return {
      status: 'active',
      suspended: false,
      issued: event.data,
      settings: settingsOf(event.data),
      digest: event.data.digest,
      keyPrefix: event.data.keyPrefix,
      previous: null,
      rotations: {},
      warned: null,
      subscriptionVersion: 0,
      version: 1,
    };
  }
  if (state.status === 'none') return state;
  return { ...state, ...changed(state, event), version: state.version + 1 };
}

function changed(state: ExistingKey, event: Exclude<KeyEvent, { type: 'KeyIssued' }>): Partial<ExistingKey> {
  switch (event.type) {
    case 'KeyUpdated': {
      const { changes } = event.data;
      // Another end: its warnings begin anew.
      const warned = changes.expiresAt === undefined ? state.warned : null;
      return { settings: { ...state.settings, ...given(changes) }, warned };
    }
    case 'KeyRotated': {
      const { rotationId, digest, keyPrefix, graceSeconds, previousKeyPrefix, previousUntil: until } = event.data;
      const previous = until === null ? null : { rotationId, keyPrefix: previousKeyPrefix, until, usedOn: null };
      return { digest, keyPrefix, previous, rotations: { ...state.rotations, [rotationId]: graceSeconds } };
    }
    case 'KeyPreviousSecretUsed':
      return { previous: state.previous && { ...state.previous, usedOn: event.data.day } };
    case 'KeyRevoked':
      return event.data.reason === 'organization_suspended' ? { suspended: true } : { status: event.data.reason };
    case 'KeyReactivated':
      return { status: 'active' };
    case 'KeyExpiring':
      return { warned: event.data.days };
    case 'KeySuspended':
      return { suspended: true };
    case 'KeyResumed':
      return { suspended: false };
    case 'KeySubscriptionChanged':
      return { subscriptionVersion: event.data.subscriptionVersion };
    default:
      return {};
  }
}

export const SETTINGS = Object.keys(settings.shape) as (keyof KeySettings)[];

const settingsOf = (key: KeySettings): KeySettings =>
  Object.fromEntries(SETTINGS.map((field) => [field, key[field]])) as unknown as KeySettings;

/** Without the fields that are there and undefined: they change nothing. */
export const given = (changes: KeyChanges): Partial<KeySettings> =>
  Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));

type Maybe<T> = { readonly [K in keyof T]?: T[K] | undefined };
export type KeyChanges = Maybe<KeySettings>;

/** What a PUT may change: settings, and whether the key can be used. */
export type KeyPatch = KeyChanges & { readonly isActive?: boolean | undefined };

export const keyStream = (keyId: string): string => `key-${keyId}`;

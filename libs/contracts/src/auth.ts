import { z } from 'zod';
import { cloudEvent } from './envelope.js';

const time = z.iso.datetime();

export const SCOPES = ['inference:read', 'inference:write', 'analytics:read', 'admin'] as const;
export const scopeSchema = z.enum(SCOPES);
export type Scope = z.infer<typeof scopeSchema>;

export const revokeReasonSchema = z.enum([
  'deleted',
  'deactivated',
  'expired',
  'subscription_ended',
  'organization_suspended',
  'leaked',
]);
export type RevokeReason = z.infer<typeof revokeReasonSchema>;

/** Roles of members, each of them able to do what those behind it can. */
export const ROLES = ['owner', 'admin', 'member', 'viewer'] as const;
export const roleSchema = z.enum(ROLES);
export type Role = z.infer<typeof roleSchema>;

/* ---- public events: what other teams and services consume from EVT_AUTH ---- */

export const keyIssuedV1 = cloudEvent(
  'sluice.auth.key.issued.v1',
  z.object({
    organizationId: z.string(),
    project: z.string().nullable(),
    keyId: z.string(),
    kind: z.enum(['credit', 'subscription', 'management']),
    name: z.string(),
    /** Absent in events of before they were told. */
    tags: z.array(z.string()).optional(),
    keyPrefix: z.string(),
    createdAt: time,
  }),
);
export type KeyIssuedV1 = z.infer<typeof keyIssuedV1>;

export const keyRevokedV1 = cloudEvent(
  'sluice.auth.key.revoked.v1',
  z.object({
    organizationId: z.string(),
    project: z.string().nullable(),
    keyId: z.string(),
    keyPrefix: z.string(),
    reason: revokeReasonSchema,
    revokedAt: time,
  }),
);
export type KeyRevokedV1 = z.infer<typeof keyRevokedV1>;

/** Which key an event is about. */
const aboutKey = {
  organizationId: z.string(),
  project: z.string().nullable(),
  keyId: z.string(),
  keyPrefix: z.string(),
};

/** A deactivated or suspended key that may be used again. */
export const keyReactivatedV1 = cloudEvent(
  'sluice.auth.key.reactivated.v1',
  z.object({ ...aboutKey, reactivatedAt: time }),
);
export type KeyReactivatedV1 = z.infer<typeof keyReactivatedV1>;

/** Settings of a key that changed: their names, and the name of the key as it is now. */
export const keyUpdatedV1 = cloudEvent(
  'sluice.auth.key.updated.v1',
  z.object({
    ...aboutKey,
    name: z.string(),
    changed: z.array(z.string()).min(1),
    /** All that it has now, where they are among what changed. */
    tags: z.array(z.string()).optional(),
    updatedAt: time,
  }),
);
export type KeyUpdatedV1 = z.infer<typeof keyUpdatedV1>;

/** A key with a new secret. `keyPrefix` is of the new one; the previous one works until `previousUntil` (null: no more). */
export const keyRotatedV1 = cloudEvent(
  'sluice.auth.key.rotated.v1',
  z.object({ ...aboutKey, previousKeyPrefix: z.string(), previousUntil: time.nullable(), rotatedAt: time }),
);
export type KeyRotatedV1 = z.infer<typeof keyRotatedV1>;

/** A secret that was rotated away is still used: at most once per rotation and day. */
export const keyPreviousSecretUsedV1 = cloudEvent(
  'sluice.auth.key.previous_secret_used.v1',
  z.object({ ...aboutKey, previousKeyPrefix: z.string(), previousUntil: time, usedAt: time }),
);
export type KeyPreviousSecretUsedV1 = z.infer<typeof keyPreviousSecretUsedV1>;

/** A key ends in at most this many days: 14, 3, 1. */
export const keyExpiringV1 = cloudEvent(
  'sluice.auth.key.expiring.v1',
  z.object({
    ...aboutKey,
    name: z.string(),
    expiresAt: time,
    days: z.union([z.literal(14), z.literal(3), z.literal(1)]),
  }),
);
export type KeyExpiringV1 = z.infer<typeof keyExpiringV1>;

export const organizationCreatedV1 = cloudEvent(
  'sluice.auth.organization.created.v1',
  z.object({ organizationId: z.string(), name: z.string(), createdAt: time }),
);
export type OrganizationCreatedV1 = z.infer<typeof organizationCreatedV1>;

export const organizationSuspendedV1 = cloudEvent(
  'sluice.auth.organization.suspended.v1',
  z.object({ organizationId: z.string(), reason: z.string(), suspendedAt: time }),
);
export type OrganizationSuspendedV1 = z.infer<typeof organizationSuspendedV1>;

export const organizationResumedV1 = cloudEvent(
  'sluice.auth.organization.resumed.v1',
  z.object({ organizationId: z.string(), resumedAt: time }),
);
export type OrganizationResumedV1 = z.infer<typeof organizationResumedV1>;

/** What an organization decides for itself: what changed of it, as it is from this version of the organization on. */
export const organizationSettingsChangedV1 = cloudEvent(
  'sluice.auth.organization.settings_changed.v1',
  z.object({
    organizationId: z.string(),
    settings: z.object({
      immutableKeyNames: z.boolean().optional(),
      /** How many times its usual a key may use in an hour before `usage.spike` tells; null: it never does. */
      usageSpikeFactor: z.number().positive().nullable().optional(),
    }),
    /** Higher is newer. */
    version: z.number().int().positive(),
    changedAt: time,
  }),
);
export type OrganizationSettingsChangedV1 = z.infer<typeof organizationSettingsChangedV1>;

export const AUTH_EVENTS = [
  keyIssuedV1,
  keyRevokedV1,
  keyReactivatedV1,
  keyUpdatedV1,
  keyRotatedV1,
  keyPreviousSecretUsedV1,
  keyExpiringV1,
  organizationCreatedV1,
  organizationSuspendedV1,
  organizationResumedV1,
  organizationSettingsChangedV1,
] as const;

/* ---- the key feed: invalidations only, never a key's content ---- */

/**
 * On `keyfeed.key.<id>`: whatever is cached that rests on this id with a lower version is void. The id is of a key, of a
 * session, or of an organization (then it voids every credential of it).
 */
export const invalidationSchema = z.object({
  id: z.string().min(1).max(64),
  /** The version of the id's event stream that made it so. */
  version: z.number().int().positive(),
  /** What becomes of the requests in flight on it: cut them, or let them end (`?inflight=drain`, a change that ends nothing). */
  inflight: z.enum(['cut', 'drain']),
});
export type Invalidation = z.infer<typeof invalidationSchema>;

/* ---- internal HTTP of auth, for the gateway ---- */

/** PUT /internal/gateways/:boot — membership, before the first look-up. DELETE leaves, by the process itself only. */
export const gatewayRegistrationSchema = z.object({
  /** Where auth pushes tombstones: `POST <url>/internal/tombstones`. */
  url: z.url(),
});
export type GatewayRegistration = z.infer<typeof gatewayRegistrationSchema>;

export const credentialKindSchema = z.enum(['credit', 'subscription', 'management', 'operator', 'session']);

/** POST /internal/lookups — `digest` is the base64url SHA-256 of the presented secret. */
export const lookupRequestSchema = z.object({ boot: z.string(), digest: z.string().length(43) });

/** A date at which a budget begins anew, 00:00 UTC: each day, each Monday, each first of a month. */
export const budgetResetSchema = z.enum(['daily', 'weekly', 'monthly']);

const limit = z.number().int().positive().nullable();
/** Requests and tokens per minute, and requests in flight at once; null = as many as come. */
export const limitsSchema = z.object({ rpm: limit, tpm: limit, concurrency: limit });
export type Limits = z.infer<typeof limitsSchema>;

/** What a gateway must know of a credential to admit or refuse. Never the secret. */
export const credentialSchema = z.object({
  /** Id of the key or of the session. */
  keyId: z.string(),
  version: z.number().int().positive(),
  kind: credentialKindSchema,
  organizationId: z.string().nullable(),
  /**
   * Version at which the organization was last suspended or resumed, or had limits of its own or of a project changed,
   * else 1; 0 without an organization.
   */
  organizationVersion: z.number().int().nonnegative(),
  project: z.string().nullable(),
  name: z.string(),
  scopes: z.array(scopeSchema),
  /** `<project>/<workload>` or `<project>/*`. */
  access: z.array(z.string()),
  models: z.array(z.string()).nullable(),
  /** Addresses and CIDR blocks it may be used from; null = anywhere. */
  ipAllow: z.array(z.string()).nullable(),
  expiresAt: time.nullable(),
  /** A secret that was rotated away, and the end of its grace; null for the current one. */
  previousUntil: time.nullable(),
  ...limitsSchema.shape,
  /** What all keys of the organization, and all of the key's project, have together; null = no limit of any kind. */
  organizationLimits: limitsSchema.nullable(),
  projectLimits: limitsSchema.nullable(),
  /** 0 (first) to 9; null = the workload's. */
  priority: z.number().int().min(0).max(9).nullable(),
  /** Pico-USD. */
  maxBudget: z
    .string()
    .regex(/^\d{1,38}$/)
    .nullable(),
  budgetReset: budgetResetSchema.nullable(),
  /**
   * Of a subscription's key, which pays for nothing: the UTC hours of each day it may be used in, and when it ends, whatever
   * else is heard or not. `models` is then no more than what its pool serves.
   */
  subscription: z
    .object({ id: z.string(), hours: z.array(z.number().int().min(0).max(23)), goodUntil: time })
    .nullable()
    // An auth of before there were any says nothing of them.
    .default(null),
  /** Of a session: whose, and as what. */
  memberId: z.string().nullable(),
  role: roleSchema.nullable(),
});
export type Credential = z.infer<typeof credentialSchema>;

/**
 * 200 of a look-up. Unknown, revoked, suspended: 401 `invalid_api_key`; ended by its date: 401 `api_key_expired`; a boot
 * id that is not registered, or about to be retired: 409 `unknown_gateway`.
 */
export const lookupResponseSchema = z.object({ credential: credentialSchema });

/** Uses of secrets in grace, in one report. */
export const MAX_PREVIOUS_USES = 1_000;
/** POST /internal/previous-uses, by gateways: keys whose previous secret was used, each at most once a minute. */
export const previousUseSchema = z.object({ keyId: z.string().min(1).max(64), previousUntil: time, usedAt: time });
export type PreviousUse = z.infer<typeof previousUseSchema>;
export const previousUsesSchema = z.object({ uses: z.array(previousUseSchema).min(1).max(MAX_PREVIOUS_USES) });

/** GET /internal/organizations/:id/workloads?boot= */
export const workloadSchema = z.object({
  project: z.string(),
  name: z.string(),
  /** The model id that its workers serve. */
  model: z.string(),
  createdAt: time,
});
export type Workload = z.infer<typeof workloadSchema>;
export const workloadsResponseSchema = z.object({ workloads: z.array(workloadSchema) });

/** Tombstones in one push. */
export const MAX_TOMBSTONES = 1_000;
/** POST /internal/tombstones on a gateway; its 200 repeats them with its boot id: that key version is dead there. */
export const tombstonesRequestSchema = z.object({ tombstones: z.array(invalidationSchema).min(1).max(MAX_TOMBSTONES) });
export const tombstonesResponseSchema = z.object({ boot: z.string(), tombstones: z.array(invalidationSchema) });

/** In the answer of whatever cuts a key's rights. `confirmed` of `of` gateways said so themselves, in `ms`. */
export const inForceSchema = z.object({
  confirmed: z.number().int().nonnegative(),
  of: z.number().int().nonnegative(),
  ms: z.number().int().nonnegative(),
});
export type InForce = z.infer<typeof inForceSchema>;

/** Evidence that a key is alive is good for this long from the moment it was asked for, by the monotonic clock. */
export const EVIDENCE_MS = 2_000;
/** Slack for scheduling on top of EVIDENCE_MS when a gateway can't be asked. */
export const EVIDENCE_MARGIN_MS = 500;

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

/* ---- public events: what other teams and services consume from EVT_AUTH ---- */

export const keyIssuedV1 = cloudEvent(
  'sluice.auth.key.issued.v1',
  z.object({
    organizationId: z.string(),
    project: z.string().nullable(),
    keyId: z.string(),
    kind: z.enum(['credit', 'subscription', 'management']),
    name: z.string(),
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

export const organizationCreatedV1 = cloudEvent(
  'sluice.auth.organization.created.v1',
  z.object({ organizationId: z.string(), name: z.string(), createdAt: time }),
);
export type OrganizationCreatedV1 = z.infer<typeof organizationCreatedV1>;

export const AUTH_EVENTS = [keyIssuedV1, keyRevokedV1, organizationCreatedV1] as const;

/* ---- the key feed: invalidations only, never a key's content ---- */

/** On `keyfeed.key.<keyId>`: whatever is cached of this key with a lower version is void. */
export const keyInvalidationSchema = z.object({
  keyId: z.string(),
  /** The version of the key's event stream that made it so. */
  version: z.number().int().positive(),
});
export type KeyInvalidation = z.infer<typeof keyInvalidationSchema>;

/* ---- internal HTTP of auth, for the gateway ---- */

/** PUT /internal/gateways/:boot — membership, before the first look-up. DELETE leaves, by the process itself only. */
export const gatewayRegistrationSchema = z.object({
  /** Where auth pushes tombstones: `POST <url>/internal/tombstones`. */
  url: z.url(),
});
export type GatewayRegistration = z.infer<typeof gatewayRegistrationSchema>;

/** POST /internal/lookups — `digest` is the base64url SHA-256 of the presented secret. */
export const lookupRequestSchema = z.object({ boot: z.string(), digest: z.string().length(43) });

/** What a gateway must know of a credential to admit or refuse. Never the secret. */
export const credentialSchema = z.object({
  keyId: z.string(),
  version: z.number().int().positive(),
  kind: z.enum(['credit', 'subscription', 'management', 'operator']),
  organizationId: z.string().nullable(),
  project: z.string().nullable(),
  name: z.string(),
  scopes: z.array(scopeSchema),
  /** `<project>/<workload>` or `<project>/*`. */
  access: z.array(z.string()),
  models: z.array(z.string()).nullable(),
  expiresAt: time.nullable(),
  rpm: z.number().int().positive().nullable(),
});
export type Credential = z.infer<typeof credentialSchema>;

/** 200 of a look-up. A revoked or unknown digest is 404, an unregistered boot id 409 `unknown_gateway`. */
export const lookupResponseSchema = z.object({ credential: credentialSchema });

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

/** POST /internal/tombstones on a gateway; its 200 repeats them with its boot id: that key version is dead there. */
export const tombstonesRequestSchema = z.object({ tombstones: z.array(keyInvalidationSchema).min(1).max(1000) });
export const tombstonesResponseSchema = z.object({ boot: z.string(), tombstones: z.array(keyInvalidationSchema) });

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

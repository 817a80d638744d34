import type { Credential } from '@sluice/contracts/auth';
import { rfc3339 } from '@sluice/primitives/clock';
import type { Profile } from './profiles.js';

/**
 * A credential as the projection holds it: what is its own here, the rest in the shared profile. A million of them have
 * to fit into a few hundred bytes each, with their strings and both indexes.
 */
export class KnownKey implements Credential {
  /** Another secret of the same key. */
  sibling: KnownKey | undefined = undefined;
  readonly keyId: string;
  readonly version: number;
  readonly name: string;
  /** Milliseconds since the epoch; null = never. */
  readonly expiresMs: number | null;
  readonly previousUntilMs: number | null;

  constructor(
    readonly digest: string,
    readonly profile: Profile,
    credential: Credential,
    /** Whole monotonic milliseconds when the look-up was sent: its evidence counts from there, not from its arrival. */
    readonly sentAt: number,
  ) {
    this.keyId = credential.keyId;
    this.version = credential.version;
    this.name = credential.name;
    this.expiresMs = credential.expiresAt === null ? null : Date.parse(credential.expiresAt);
    this.previousUntilMs = credential.previousUntil === null ? null : Date.parse(credential.previousUntil);
  }

  get expiresAt() {
    return this.expiresMs === null ? null : rfc3339(this.expiresMs);
  }
  get previousUntil() {
    return this.previousUntilMs === null ? null : rfc3339(this.previousUntilMs);
  }
  get kind() {
    return this.profile.kind;
  }
  get organizationId() {
    return this.profile.organizationId;
  }
  get organizationVersion() {
    return this.profile.organizationVersion;
  }
  get project() {
    return this.profile.project;
  }
  get scopes() {
    return this.profile.scopes;
  }
  get access() {
    return this.profile.access;
  }
  get models() {
    return this.profile.models;
  }
  get ipAllow() {
    return this.profile.ipAllow;
  }
  get rpm() {
    return this.profile.rpm;
  }
  get tpm() {
    return this.profile.tpm;
  }
  get concurrency() {
    return this.profile.concurrency;
  }
  get organizationLimits() {
    return this.profile.organizationLimits;
  }
  get projectLimits() {
    return this.profile.projectLimits;
  }
  get priority() {
    return this.profile.priority;
  }
  get maxBudget() {
    return this.profile.maxBudget;
  }
  get budgetReset() {
    return this.profile.budgetReset;
  }
  get subscription() {
    return this.profile.subscription;
  }
  /** Null for a key that pays for what it uses. */
  get reserved() {
    return this.profile.reserved;
  }
  get memberId() {
    return this.profile.memberId;
  }
  get role() {
    return this.profile.role;
  }
}

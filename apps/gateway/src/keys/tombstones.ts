import type { Credential, Invalidation } from '@sluice/contracts/auth';

/** About 150 bytes each. */
const CAPACITY = 200_000;

/**
 * What was invalidated lately, known here or not: ids of keys, sessions and organizations, each with the version below
 * which nothing counts. They guard against look-ups that were under way, so they have to outlive every one of them.
 */
export class Tombstones {
  private readonly versions = new Map<string, { readonly version: number; readonly at: number }>();

  constructor(
    private readonly lifeMs: number,
    private readonly capacity = CAPACITY,
  ) {}

  get size(): number {
    return this.versions.size;
  }

  /** False when this version or a newer one is known already. */
  add({ id, version }: Invalidation, now: number): boolean {
    if ((this.versions.get(id)?.version ?? 0) >= version) return false;
    // Taken out first, so that the map stays in order of time.
    this.versions.delete(id);
    this.versions.set(id, { version, at: now });
    return true;
  }

  /** True when a credential was read before what is known to have happened. */
  buries({ keyId, version, organizationId, organizationVersion }: Credential): boolean {
    return this.newer(keyId, version) || (organizationId !== null && this.newer(organizationId, organizationVersion));
  }

  /** Forgets what has outlived its use; true if one had to go early, as there are too many. */
  trim(now: number): boolean {
    for (const [id, { at }] of this.versions) {
      const old = now - at > this.lifeMs;
      if (!old && this.versions.size <= this.capacity) return false;
      this.versions.delete(id);
      if (!old) return true;
    }
    return false;
  }

  private newer(id: string, version: number): boolean {
    const known = this.versions.get(id);
    return known !== undefined && version < known.version;
  }
}

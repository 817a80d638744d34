import type { Credential } from '@sluice/contracts/auth';
import { reservedOf, type Reserved } from './reserved.js';

/** What is of one secret alone; everything else of a credential is shared by many. */
type Own = 'keyId' | 'version' | 'name' | 'expiresAt' | 'previousUntil';

/** What many keys of an organization have in common, held once. */
export interface Profile extends Readonly<Omit<Credential, Own>> {
  /** Its `subscription`, read once. */
  readonly reserved: Reserved | null;
  /** The organization was suspended, or resumed: whatever rests on this must be asked for anew. */
  dead: boolean;
  /** How many entries rest on it. */
  uses: number;
  /** Its name among those of its organization. */
  readonly text: string;
}

/**
 * The profiles in use, by organization. A million keys of a thousand organizations are a few thousand profiles; and an
 * organization's keys end all at once by marking its few. None outlives its last entry.
 */
export class Profiles {
  private readonly organizations = new Map<string, Map<string, Profile>>();
  private count = 0;

  get size(): number {
    return this.count;
  }

  /** The one profile that stands for this credential's shared part, used once more. */
  take({ keyId: _id, version: _version, name: _name, expiresAt: _end, previousUntil: _until, ...shared }: Credential) {
    const text = JSON.stringify(shared);
    const organization = shared.organizationId ?? '';
    let profiles = this.organizations.get(organization);
    if (!profiles) this.organizations.set(organization, (profiles = new Map()));
    let profile = profiles.get(text);
    if (!profile) {
      const reserved = shared.subscription && reservedOf(shared.subscription);
      profiles.set(text, (profile = { ...shared, reserved, dead: false, uses: 0, text }));
      this.count++;
    }
    profile.uses++;
    return profile;
  }

  release(profile: Profile): void {
    if (--profile.uses === 0 && !profile.dead) this.remove(profile);
  }

  /** Marks what was learned of an organization before this version; look-ups from now on get profiles of their own. */
  void(organizationId: string, version: number): void {
    for (const profile of this.organizations.get(organizationId)?.values() ?? []) {
      if (profile.organizationVersion >= version) continue;
      profile.dead = true;
      this.remove(profile);
    }
  }

  clear(): void {
    this.organizations.clear();
    this.count = 0;
  }

  private remove({ organizationId, text }: Profile): void {
    const organization = organizationId ?? '';
    const profiles = this.organizations.get(organization);
    if (!profiles?.delete(text)) return;
    this.count--;
    if (profiles.size === 0) this.organizations.delete(organization);
  }
}

import type { Credential, Invalidation } from '@sluice/contracts/auth';
import { EVIDENCE_MS } from '@sluice/contracts/auth';

/** Tombstones outlive every look-up that could still bring an older version: far above the look-up deadline. */
const TOMBSTONE_MS = 60_000;
/** More than this between the monotonic and the wall clock since the last check: the machine slept or was set. */
const CLOCK_DRIFT_MS = 100;

interface Entry {
  readonly credential: Credential;
  /** Monotonic milliseconds when the look-up was sent: its evidence counts from there, not from its arrival. */
  readonly sentAt: number;
}

/** A look-up under way; it is worth nothing once another generation began. */
export interface Flight {
  readonly sentAt: number;
  readonly generation: number;
}

/**
 * What this gateway knows of keys, and for how long it may believe it. Pure: every method takes the time.
 *
 * An entry is evidence for EVIDENCE_MS from the send time of its look-up, or as long as the feed lease holds, if the
 * look-up began after the feed's consumer existed. The feed only takes away; it never inserts. Doubt starts a new
 * generation, in which nothing that was known counts.
 */
export class KeyProjection {
  private readonly entries = new Map<string, Entry>();
  private readonly digestsOf = new Map<string, Set<string>>();
  private readonly tombstones = new Map<string, { version: number; at: number }>();
  private generationNumber = 1;
  private leaseUntil = -Infinity;
  private followingSince = Infinity;
  private clocks: { monotonic: number; wall: number } | undefined;

  constructor(private readonly capacity: number) {}

  get size(): number {
    return this.entries.size;
  }

  get generation(): number {
    return this.generationNumber;
  }

  leaseLeft(now: number): number {
    return Math.max(0, this.leaseUntil - now);
  }

  /** The credential behind a digest if there is evidence at this moment that it is alive; call it after the last await. */
  admit(digest: string, now: number): Credential | undefined {
    this.noticeLapse(now);
    const entry = this.entries.get(digest);
    if (entry === undefined || this.isDead(entry.credential)) return undefined;
    const underLease = now < this.leaseUntil && entry.sentAt >= this.followingSince;
    return underLease || now < entry.sentAt + EVIDENCE_MS ? entry.credential : undefined;
  }

  beginLookup(now: number): Flight {
    this.noticeLapse(now);
    return { sentAt: now, generation: this.generationNumber };
  }

  /** Takes a look-up's answer. False: it came too late to count (another generation, or a newer tombstone). */
  finishLookup(flight: Flight, digest: string, credential: Credential): boolean {
    if (flight.generation !== this.generationNumber || this.isDead(credential)) return false;
    this.forget(digest);
    if (this.entries.size >= this.capacity) this.forget(this.entries.keys().next().value!);
    this.entries.set(digest, { credential, sentAt: flight.sentAt });
    const digests = this.digestsOf.get(credential.keyId);
    if (digests) digests.add(digest);
    else this.digestsOf.set(credential.keyId, new Set([digest]));
    return true;
  }

  /** An invalidation, by feed or push, of a known key or not. True if it is new: what runs on the key must be cut. */
  invalidate({ id, version }: Invalidation, now: number): boolean {
    const known = this.tombstones.get(id);
    if (known !== undefined && known.version >= version) return false;
    this.tombstones.set(id, { version, at: now });
    for (const digest of this.digestsOf.get(id) ?? []) {
      const entry = this.entries.get(digest);
      if (entry && this.isDead(entry.credential)) this.forget(digest);
    }
    return true;
  }

  /** The feed's consumer exists from now on: look-ups sent later are covered by what it brings. */
  followingFrom(now: number): void {
    this.newGeneration();
    this.followingSince = now;
  }

  /** The feed's consumer is gone or was made anew: nothing vouches for what is cached. */
  stoppedFollowing(): void {
    this.newGeneration();
    this.followingSince = Infinity;
  }

  /** Our own barrier came back through our own consumer: everything published before its send time has been seen. */
  barrierReturned(sentAt: number, now: number): void {
    this.noticeLapse(now);
    if (sentAt >= this.followingSince) this.leaseUntil = Math.max(this.leaseUntil, sentAt + EVIDENCE_MS);
  }

  /** To be called often; a process that slept, or a clock that was set, loses what it believed. */
  checkClocks(monotonic: number, wall: number): void {
    const last = this.clocks;
    this.clocks = { monotonic, wall };
    if (last && Math.abs(wall - last.wall - (monotonic - last.monotonic)) > CLOCK_DRIFT_MS) this.newGeneration();
    for (const [keyId, tombstone] of this.tombstones) {
      if (monotonic - tombstone.at <= TOMBSTONE_MS) break; // in order of insertion, nearly
      this.tombstones.delete(keyId);
    }
  }

  private newGeneration(): void {
    this.generationNumber++;
    this.entries.clear();
    this.digestsOf.clear();
    this.leaseUntil = -Infinity;
  }

  /** A lease that lapsed, even when that is noticed late: invalidations may have been missed. */
  private noticeLapse(now: number): void {
    if (this.leaseUntil !== -Infinity && now >= this.leaseUntil) this.newGeneration();
  }

  private isDead(credential: Credential): boolean {
    const tombstone = this.tombstones.get(credential.keyId);
    return tombstone !== undefined && credential.version < tombstone.version;
  }

  private forget(digest: string): void {
    const entry = this.entries.get(digest);
    if (!entry) return;
    this.entries.delete(digest);
    const digests = this.digestsOf.get(entry.credential.keyId);
    digests?.delete(digest);
    if (digests?.size === 0) this.digestsOf.delete(entry.credential.keyId);
  }
}

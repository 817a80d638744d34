import { EVIDENCE_MS, type Credential, type Invalidation } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import type { Clock } from '@sluice/primitives/clock';
import { Ended } from './ended.js';
import { KnownKey } from './known-key.js';
import { Profiles } from './profiles.js';
import { Tombstones } from './tombstones.js';

/** An answer that took longer counts for nothing, whatever brought it so late. Above the look-up's own deadline. */
export const FLIGHT_MS = 5_000;
/** Longer than any look-up that could still bring an older version. */
const TOMBSTONE_MS = 6 * FLIGHT_MS;
/** More than this between the monotonic and the wall clock since the last check: the machine slept or was set. */
const CLOCK_DRIFT_MS = 100;
/** How long a "no" of auth is remembered, from the send time of the look-up. */
const REFUSAL_MS = 1_000;
const MAX_REFUSALS = 100_000;

export type Refusal = 'invalid_api_key' | 'api_key_expired';

/** A look-up under way; it is worth nothing once another generation began. */
export interface Flight {
  readonly sentAt: number;
  readonly generation: number;
  readonly invalidations: number;
}

/**
 * What this gateway knows of credentials, and for how long it may believe it. Pure but for the clock it is given.
 *
 * An entry is evidence for EVIDENCE_MS from the send time of its look-up, or as long as the feed lease holds, if the
 * look-up began after the feed's consumer existed. The feed only takes away; it never inserts. Doubt starts a new
 * generation, in which nothing that was known counts; it is looked for in every call, as after a pause of the process
 * the first thing that runs may be a request.
 */
export class KeyProjection {
  private readonly entries = new Map<string, KnownKey>();
  private readonly secretsOf = new Map<string, KnownKey>();
  private readonly profiles = new Profiles();
  private readonly tombstones = new Tombstones(TOMBSTONE_MS);
  private readonly refusals = new Map<string, { readonly code: Refusal; readonly until: number }>();
  private readonly ended = new Ended();
  private generationNumber = 1;
  private invalidationCount = 0;
  private leaseUntil = -Infinity;
  private followingSince = Infinity;
  private clocks: { monotonic: number; wall: number } | undefined;

  constructor(
    private readonly capacity: number,
    private readonly clock: Clock,
  ) {}

  get size(): number {
    return this.entries.size;
  }

  get profileCount(): number {
    return this.profiles.size;
  }

  get generation(): number {
    return this.generationNumber;
  }

  /** Milliseconds that the feed lease still holds. */
  get leaseLeft(): number {
    return Math.max(0, this.leaseUntil - this.clock.monotonic());
  }

  /**
   * The credential behind a digest if there is evidence at this moment that it is alive; call it after the last await.
   * @throws Rejected `api_key_expired`, or `invalid_api_key` for a secret whose grace is over, by this gateway's clock
   */
  admit(digest: string): KnownKey | undefined {
    const now = this.look();
    const entry = this.entries.get(digest);
    if (entry === undefined) return undefined;
    if (entry.profile.dead) {
      this.forget(entry);
      return undefined;
    }
    const underLease = now < this.leaseUntil && entry.sentAt >= this.followingSince;
    if (!underLease && now >= entry.sentAt + EVIDENCE_MS) return undefined;
    this.requireNotEnded(entry);
    return entry;
  }

  /** What was last known of a secret, with or without evidence: to say whose a refused request was, never to admit. */
  known(digest: string): KnownKey | undefined {
    return this.entries.get(digest);
  }

  /** @throws Rejected as `admit` does, of what is known of a secret, with or without evidence */
  requireNotEnded({ digest, expiresMs, previousUntilMs }: KnownKey): void {
    const wall = this.clock.now();
    if (expiresMs !== null && this.ended.passed(digest, expiresMs, wall)) throw new Rejected('api_key_expired');
    if (previousUntilMs !== null && this.ended.passed(digest, previousUntilMs, wall))
      throw new Rejected('invalid_api_key', 'The API key was rotated, and the grace of this secret is over.');
  }

  /** What auth said of this digest a moment ago, if it was a no. */
  refusal(digest: string): Refusal | undefined {
    const now = this.look();
    const known = this.refusals.get(digest);
    return known !== undefined && now < known.until ? known.code : undefined;
  }

  beginLookup(): Flight {
    const now = this.look();
    return {
      // Whole, and rounded down: the evidence ends rather earlier.
      sentAt: Math.floor(now),
      generation: this.generationNumber,
      invalidations: this.invalidationCount,
    };
  }

  /** Takes a look-up's answer. False: it came too late to count (another generation, or a newer tombstone). */
  finishLookup(flight: Flight, digest: string, credential: Credential): boolean {
    if (!this.counts(flight) || this.tombstones.buries(credential)) return false;
    const known = this.entries.get(digest);
    if (known) this.forget(known);
    if (this.entries.size >= this.capacity) this.makeRoom();
    const entry = new KnownKey(digest, this.profiles.take(credential), credential, flight.sentAt);
    entry.sibling = this.secretsOf.get(entry.keyId);
    this.entries.set(digest, entry);
    this.secretsOf.set(entry.keyId, entry);
    return true;
  }

  /** A "no" of auth, for the moment; not if anything was invalidated meanwhile, as it may have been a reactivation. */
  refused(flight: Flight, digest: string, code: Refusal): void {
    if (!this.counts(flight) || flight.invalidations !== this.invalidationCount) return;
    if (this.refusals.size >= MAX_REFUSALS) this.refusals.clear();
    this.refusals.set(digest, { code, until: flight.sentAt + REFUSAL_MS });
  }

  /** An invalidation, by feed or push, of a key, session or organization, known here or not. True if it is new. */
  invalidate(invalidation: Invalidation): boolean {
    const now = this.look();
    this.invalidationCount++;
    this.refusals.clear();
    if (!this.tombstones.add(invalidation, now)) return false;
    const { id, version } = invalidation;
    this.profiles.void(id, version);
    for (let entry = this.secretsOf.get(id); entry; entry = entry.sibling)
      if (entry.version < version) this.forget(entry);
    // A tombstone that goes too early guards no more against look-ups under way: they must not count.
    if (this.tombstones.trim(now)) this.newGeneration();
    return true;
  }

  /** The feed's consumer exists from now on: look-ups sent later are covered by what it brings. */
  followingFrom(): void {
    this.newGeneration();
    this.followingSince = this.clock.monotonic();
  }

  /** The feed's consumer is gone or was made anew: nothing vouches for what is cached. */
  stoppedFollowing(): void {
    this.newGeneration();
    this.followingSince = Infinity;
  }

  /** This process was given up by auth and takes another place: nothing of before counts. */
  startAnew(): void {
    this.newGeneration();
    if (this.followingSince !== Infinity) this.followingSince = this.clock.monotonic();
  }

  /**
   * Our own barrier came back through our own consumer: everything published before its send time has been seen.
   * @param sentAt monotonic milliseconds
   */
  barrierReturned(sentAt: number): void {
    this.look();
    if (sentAt >= this.followingSince) this.leaseUntil = Math.max(this.leaseUntil, sentAt + EVIDENCE_MS);
  }

  /** To be called often: a clock that jumps is seen the better the less time went by. */
  check(): void {
    this.tombstones.trim(this.look());
  }

  /** Notices what happened since the last look: clocks that disagree, and a lease that lapsed, even if long ago. */
  private look(): number {
    const monotonic = this.clock.monotonic();
    const wall = this.clock.now();
    const last = this.clocks;
    if (last && Math.abs(wall - last.wall - (monotonic - last.monotonic)) > CLOCK_DRIFT_MS) this.newGeneration();
    if (last) {
      last.monotonic = monotonic;
      last.wall = wall;
    } else this.clocks = { monotonic, wall };
    // Invalidations may have been missed since: what was cached under it does not come back with the next lease.
    if (this.leaseUntil !== -Infinity && monotonic >= this.leaseUntil) this.newGeneration();
    return monotonic;
  }

  private counts(flight: Flight): boolean {
    const now = this.look();
    return flight.generation === this.generationNumber && now - flight.sentAt < FLIGHT_MS;
  }

  private newGeneration(): void {
    this.generationNumber++;
    this.entries.clear();
    this.secretsOf.clear();
    this.profiles.clear();
    this.refusals.clear();
    this.leaseUntil = -Infinity;
  }

  /** A hundredth at a time: finding the oldest of a map costs as much as was taken out before it. */
  private makeRoom(): void {
    let left = Math.ceil(this.capacity / 100);
    for (const entry of this.entries.values()) {
      this.forget(entry);
      if (--left === 0) return;
    }
  }

  private forget(entry: KnownKey): void {
    this.entries.delete(entry.digest);
    this.profiles.release(entry.profile);
    const first = this.secretsOf.get(entry.keyId);
    if (first === entry) {
      if (entry.sibling) this.secretsOf.set(entry.keyId, entry.sibling);
      else this.secretsOf.delete(entry.keyId);
      return;
    }
    for (let other = first; other; other = other.sibling) if (other.sibling === entry) other.sibling = entry.sibling;
  }
}

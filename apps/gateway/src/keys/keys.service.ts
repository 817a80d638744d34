import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { lookupResponseSchema, type Credential, type Invalidation } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { gauge, type ServiceClient } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import { KeyProjection } from './key-projection.js';
import type { Membership } from './membership.service.js';

const LOOKUP_TIMEOUT_MS = 2_000;
const CLOCK_CHECK_MS = 50;
/** Look-ups under way at once; more wait for nothing and are refused. */
const MAX_FLIGHTS = 10_000;

/** Ends a request in flight; the code says why. */
export type Cut = (error: Rejected) => void;

/** The keys this gateway knows: asked from auth when needed, taken away by the feed and by pushes. */
@Injectable()
export class Keys implements OnModuleInit, OnApplicationShutdown {
  private readonly flights = new Map<string, Promise<void>>();
  private readonly inFlight = new Map<string, Set<Cut>>();
  private timer: NodeJS.Timeout | undefined;
  private readonly lookups = new Counter({
    name: 'gateway_key_lookups_total',
    help: 'Look-ups of keys at auth',
    labelNames: ['outcome'],
  });

  constructor(
    readonly projection: KeyProjection,
    private readonly membership: Membership,
    private readonly auth: ServiceClient,
  ) {
    gauge('gateway_keys_cached', 'Keys in the projection', () => projection.size);
    gauge(
      'gateway_feed_lease_seconds',
      'Seconds that the feed lease still holds',
      () => projection.leaseLeft(systemClock.monotonic()) / 1000,
    );
    // A process that registers anew was given up by auth: what it knows may be old.
    membership.whenRenewed(() => projection.stoppedFollowing());
  }

  onModuleInit(): void {
    const check = () => this.projection.checkClocks(systemClock.monotonic(), systemClock.now());
    this.timer = setInterval(check, CLOCK_CHECK_MS);
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  static digest(secret: string): string {
    return createHash('sha256').update(secret).digest('base64url');
  }

  /** The synchronous check for the turn in which something is done on the key. */
  admit(digest: string): Credential | undefined {
    return this.projection.admit(digest, systemClock.monotonic());
  }

  /**
   * The credential behind a digest, asking auth if there is no evidence at hand.
   * @throws Rejected `invalid_api_key`; `unavailable` when nobody can say
   */
  async find(digest: string): Promise<Credential> {
    // A look-up may be overtaken by an invalidation or a new generation: then its answer does not count.
    for (let attempt = 0; attempt < 3; attempt++) {
      const credential = this.admit(digest);
      if (credential) return credential;
      await this.lookup(digest);
    }
    throw new Rejected('unavailable', 'The key could not be verified.', { retryAfter: 1 });
  }

  /** An invalidation by feed or push: forgets the key and ends what runs on it. */
  invalidate(invalidation: Invalidation): void {
    if (!this.projection.invalidate(invalidation, systemClock.monotonic()) || invalidation.inflight === 'drain') return;
    for (const cut of this.inFlight.get(invalidation.id) ?? []) {
      cut(new Rejected('invalid_api_key', 'The API key was revoked.'));
    }
  }

  /** Registers a request in flight on a key, to be cut if the key is revoked; returns the way to take it off. */
  track(keyId: string, cut: Cut): () => void {
    const cuts = this.inFlight.get(keyId) ?? new Set<Cut>();
    this.inFlight.set(keyId, cuts.add(cut));
    return () => {
      cuts.delete(cut);
      if (cuts.size === 0 && this.inFlight.get(keyId) === cuts) this.inFlight.delete(keyId);
    };
  }

  private lookup(digest: string): Promise<void> {
    const flying = this.flights.get(digest);
    if (flying) return flying;
    if (this.flights.size >= MAX_FLIGHTS)
      throw new Rejected('unavailable', 'Too many keys are being verified.', { retryAfter: 1 });
    const flight = this.ask(digest).finally(() => this.flights.delete(digest));
    this.flights.set(digest, flight);
    return flight;
  }

  private async ask(digest: string): Promise<void> {
    const boot = await this.membership.boot();
    const flight = this.projection.beginLookup(systemClock.monotonic());
    try {
      const body = { boot, digest };
      const { credential } = await this.auth.ask(
        { method: 'POST', path: '/internal/lookups', body, timeoutMs: LOOKUP_TIMEOUT_MS },
        lookupResponseSchema,
      );
      const counted = this.projection.finishLookup(flight, digest, credential);
      this.lookups.inc({ outcome: counted ? 'found' : 'overtaken' });
    } catch (error) {
      const code = error instanceof Rejected ? error.code : 'unavailable';
      this.lookups.inc({ outcome: code });
      if (code !== 'unknown_gateway') throw error;
      this.membership.renew(boot);
    }
  }
}

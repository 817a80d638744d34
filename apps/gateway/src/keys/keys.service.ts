import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { EVIDENCE_MS, lookupResponseSchema, type Invalidation } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { DEFAULT_PREFIXES, shownPrefix, type CredentialKind, type SecretPrefixes } from '@sluice/primitives/secret';
import { gauge, type ServiceClient } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import { InFlight, type Cut, type Running } from './in-flight.js';
import type { KeyProjection, Refusal } from './key-projection.js';
import type { KnownKey } from './known-key.js';
import type { Membership } from './membership.service.js';
import { presentedCredential, presentedSecret, type Headers } from './presented-secret.js';

/** Below FLIGHT_MS. */
const LOOKUP_TIMEOUT_MS = 2_000;
const CLOCK_CHECK_MS = 50;
const WATCH_MS = 250;
/** Look-ups under way at once; more wait for nothing and are refused. */
const MAX_LOOKUPS = 10_000;

const REVOKED = 'The API key was revoked.';

/** What a request says of its credential by itself, before anybody is asked. */
export interface PresentedSecret {
  readonly digest: string;
  readonly kind: CredentialKind;
  /** What lists show of it. */
  readonly keyPrefix: string;
}

/** The keys this gateway knows: asked from auth when needed, taken away by the feed and by pushes. */
@Injectable()
export class Keys implements OnModuleInit, OnApplicationShutdown {
  private readonly flights = new Map<string, Promise<void>>();
  private readonly inFlight = new InFlight();
  private lookupsUnderWay = 0;
  private timers: NodeJS.Timeout[] = [];
  private readonly lookups = new Counter({
    name: 'gateway_key_lookups_total',
    help: 'Look-ups of keys at auth',
    labelNames: ['outcome'],
  });
  private readonly junk = new Counter({
    name: 'gateway_junk_credentials_total',
    help: 'Credentials refused by their prefix, length or checksum, without a look-up',
  });
  private readonly cuts = new Counter({
    name: 'gateway_requests_cut_total',
    help: 'Requests in flight that were ended as their credential ended, by how that was learned',
    labelNames: ['by'],
  });

  constructor(
    readonly projection: KeyProjection,
    private readonly membership: Membership,
    private readonly auth: ServiceClient,
    private readonly prefixes: SecretPrefixes = DEFAULT_PREFIXES,
  ) {
    gauge('gateway_keys_cached', 'Keys in the projection', () => projection.size);
    gauge('gateway_key_profiles', 'Sets of rights that the cached keys share', () => projection.profileCount);
    gauge('gateway_requests_in_flight', 'Requests that were sent on', () => this.inFlight.size);
    gauge('gateway_feed_lease_seconds', 'Seconds that the feed lease still holds', () => projection.leaseLeft / 1000);
    // A process that registers anew was given up by auth: what it knows may be old.
    membership.whenRenewed(() => projection.startAnew());
  }

  onModuleInit(): void {
    this.timers = [
      setInterval(() => this.projection.check(), CLOCK_CHECK_MS),
      setInterval(() => this.watch(), WATCH_MS),
    ];
  }

  onApplicationShutdown(): void {
    for (const timer of this.timers) clearInterval(timer);
  }

  static digest(secret: string): string {
    return createHash('sha256').update(secret).digest('base64url');
  }

  /** @throws Rejected `invalid_api_key` for none or junk, which costs no look-up */
  presented(headers: Headers): PresentedSecret {
    const presented = presentedCredential(headers, this.prefixes);
    if (presented === undefined) {
      if (presentedSecret(headers) !== undefined) this.junk.inc();
      throw new Rejected('invalid_api_key');
    }
    const { secret, kind } = presented;
    return { digest: Keys.digest(secret), kind, keyPrefix: shownPrefix(secret, this.prefixes[kind]) };
  }

  /** Whose a refused request was, as far as that is known here without asking; never to admit. */
  whose(headers: Headers): KnownKey | undefined {
    const presented = presentedCredential(headers, this.prefixes);
    return presented && this.projection.known(Keys.digest(presented.secret));
  }

  /**
   * The synchronous check for the turn in which something is done on the key.
   * @throws Rejected `api_key_expired`, `invalid_api_key` when its time is over
   */
  admit(digest: string): KnownKey | undefined {
    return this.projection.admit(digest);
  }

  /**
   * The credential behind a digest, asking auth if there is no evidence at hand.
   * @throws Rejected `invalid_api_key`, `api_key_expired`; `unavailable` when nobody can say
   */
  async find(digest: string): Promise<KnownKey> {
    // A look-up may be overtaken by an invalidation or a new generation: then its answer does not count.
    for (let attempt = 0; attempt < 3; attempt++) {
      const credential = this.admit(digest);
      if (credential) return credential;
      const refusal = this.projection.refusal(digest);
      if (refusal) throw new Rejected(refusal);
      await this.lookup(digest);
    }
    const credential = this.admit(digest);
    if (credential) return credential;
    throw new Rejected('unavailable', 'The key could not be verified.', { retryAfter: 1 });
  }

  /** An invalidation by feed or push: forgets what rests on it, and ends or lets end what runs on it. */
  invalidate(invalidation: Invalidation): void {
    const resting = this.inFlight.restingOn(invalidation);
    this.projection.invalidate(invalidation);
    // Who asks from now on must not be given the answer to a question of before.
    this.flights.clear();
    for (const running of resting) {
      if (invalidation.inflight === 'drain') running.drained = true;
      else this.cut(running, new Rejected('invalid_api_key', REVOKED), 'invalidation');
    }
  }

  /** Notes a request as sent on, to be cut if its credential ends; `off` takes it away again. */
  track(credential: KnownKey, cut: Cut): { readonly running: Running; readonly off: () => void } {
    const running: Running = { credential, cut, drained: false, askedAt: -Infinity };
    this.inFlight.add(running);
    return { running, off: () => this.inFlight.remove(running) };
  }

  /**
   * May a stream go on? Without evidence auth is asked, at most once per L; if nobody can say, it goes on.
   * @returns undefined for a yes at once: this is asked for every chunk
   * @throws Rejected (now or later) `invalid_api_key`, `api_key_expired`
   */
  goesOn(running: Running): Promise<void> | undefined {
    const known = this.admit(running.credential.digest);
    if (known) {
      running.credential = known;
      // It was changed, not ended: an end that comes after it is another matter.
      running.drained = false;
    }
    // A question under way is waited for: between the end of the evidence and the answer nothing goes out.
    if (known || (!running.asking && systemClock.monotonic() < running.askedAt + EVIDENCE_MS)) return undefined;
    running.asking ??= this.askAgain(running).finally(() => (running.asking = undefined));
    return running.asking;
  }

  /** Asks for the credential of a request in flight. @throws Rejected when it is certain that it may not go on */
  private async askAgain(running: Running): Promise<void> {
    const { digest } = running.credential;
    running.askedAt = systemClock.monotonic();
    try {
      running.credential = await this.find(digest);
    } catch (error) {
      const known = error instanceof Rejected && isRefusal(error.code);
      if (known && !running.drained) throw error;
      // Nobody can say: what can be known without asking still holds.
      if (!known) this.projection.requireNotEnded(running.credential);
    }
  }

  /** Cuts what has ended by the clock, and asks again for what runs without evidence: the feed may be lost. */
  private watch(): void {
    for (const running of this.inFlight.all()) {
      if (running.asking) continue;
      const refuse = (error: Rejected) => this.cut(running, error, 'check');
      try {
        this.goesOn(running)?.catch(refuse);
      } catch (error) {
        refuse(error as Rejected);
      }
    }
  }

  private cut(running: Running, error: Rejected, by: string): void {
    this.inFlight.remove(running);
    this.cuts.inc({ by });
    running.cut(error);
  }

  private lookup(digest: string): Promise<void> {
    const flying = this.flights.get(digest);
    if (flying) return flying;
    if (this.lookupsUnderWay >= MAX_LOOKUPS)
      throw new Rejected('unavailable', 'Too many keys are being verified.', { retryAfter: 1 });
    this.lookupsUnderWay++;
    const flight = this.ask(digest).finally(() => {
      this.lookupsUnderWay--;
      if (this.flights.get(digest) === flight) this.flights.delete(digest);
    });
    this.flights.set(digest, flight);
    return flight;
  }

  private async ask(digest: string): Promise<void> {
    const boot = await this.membership.boot();
    const flight = this.projection.beginLookup();
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
      if (isRefusal(code)) this.projection.refused(flight, digest, code);
      if (code !== 'unknown_gateway') throw error;
      this.membership.renew(boot);
    }
  }
}

const isRefusal = (code: string): code is Refusal => code === 'invalid_api_key' || code === 'api_key_expired';

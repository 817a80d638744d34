import { Injectable } from '@nestjs/common';
import { actorSchema, type Actor, type ServiceName } from '@sluice/contracts/actor';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { createLocalJWKSet, importJWK, jwtVerify, SignJWT, type JSONWebKeySet, type JWK } from 'jose';
import { Counter } from 'prom-client';
import { loggerFor } from './logger.js';

const LIFETIME_SECONDS = 60;
/** By which an expired token is still taken. */
const TOLERANCE_SECONDS = 5;
/** A cached token is used for half its life, so that it is still good when it arrives. */
const REUSE_MS = (LIFETIME_SECONDS / 2) * 1000;
const VERIFIED_LIMIT = 1_000;
/** Every request may meet a refusal; the log is told of those of one service at most this often. */
const TELL_EVERY_MS = 5_000;

const refusals = new Counter({
  name: 'service_tokens_refused_total',
  help: "Service tokens of this process that another service refused: clocks that differ, or keys that don't fit",
  labelNames: ['by'],
});

export interface Caller {
  readonly service: ServiceName;
  readonly actor: Actor | undefined;
}

/**
 * Who calls whom inside Sluice: short-lived EdDSA tokens, one audience each, signed by the calling service's own key.
 * A management command carries the actor the gateway found; nobody but the gateway may speak for an actor.
 */
@Injectable()
export class ServiceTokens {
  private readonly privateKey: ReturnType<typeof importJWK>;
  private readonly publicKeys: ReturnType<typeof createLocalJWKSet>;
  private readonly issued = new Map<ServiceName, { header: string; until: number }>();
  private readonly verified = new Map<string, { caller: Caller; until: number }>();
  /** Monotonic milliseconds of the last log line, by service. */
  private readonly toldAt = new Map<ServiceName, number>();
  private readonly log = loggerFor('service-tokens');

  constructor(
    private readonly service: ServiceName,
    privateKey: JWK,
    publicKeys: JSONWebKeySet,
  ) {
    this.privateKey = importJWK(privateKey, 'EdDSA');
    this.publicKeys = createLocalJWKSet(publicKeys);
  }

  /** The `authorization` header for a call to another service; without an actor it is signed twice a minute. */
  async headerFor(audience: ServiceName, actor?: Actor): Promise<string> {
    const cached = actor === undefined ? this.issued.get(audience) : undefined;
    if (cached && cached.until > systemClock.monotonic()) return cached.header;
    const token = await new SignJWT(actor === undefined ? {} : { actor })
      .setProtectedHeader({ alg: 'EdDSA', kid: this.service })
      .setIssuer(this.service)
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime(`${LIFETIME_SECONDS}s`)
      .sign(await this.privateKey);
    const header = `Bearer ${token}`;
    if (actor === undefined) this.issued.set(audience, { header, until: systemClock.monotonic() + REUSE_MS });
    return header;
  }

  /**
   * What a call ends with when the other service refused our token: `unavailable`. It has judged neither the request nor
   * the client's credential, and only an operator can mend it, so that one is told.
   * @param url where there are many of that service
   */
  refusedBy(audience: ServiceName, url?: string): Rejected {
    refusals.inc({ by: audience });
    // Signed before a clock was set right it would be refused for the rest of its use.
    this.issued.delete(audience);
    const now = systemClock.monotonic();
    if (now - (this.toldAt.get(audience) ?? -Infinity) >= TELL_EVERY_MS) {
      this.toldAt.set(audience, now);
      this.log.error(
        { by: audience, url },
        `${audience} refuses the service token of this ${this.service}: do their clocks differ by more than ` +
          `${TOLERANCE_SECONDS} seconds, or does the key that ${this.service} signs with not fit the public keys ` +
          `that ${audience} has?`,
      );
    }
    return new Rejected('unavailable', undefined, {
      retryAfter: 1,
      cause: new Error(`${audience} refuses our service token`),
    });
  }

  /** The caller if its token was verified before and is still good: the warm path of the router, one map look-up. */
  known(header: string | undefined): Caller | undefined {
    const entry = header === undefined ? undefined : this.verified.get(header);
    return entry && entry.until > systemClock.now() ? entry.caller : undefined;
  }

  /** @throws Rejected `invalid_service_token` when the token is missing, forged, expired or for somebody else */
  async verify(header: string | undefined): Promise<Caller> {
    const known = this.known(header);
    if (known) return known;
    if (header === undefined || !header.startsWith('Bearer '))
      throw new Rejected('invalid_service_token', 'A service token is missing.');
    try {
      const { payload, protectedHeader } = await jwtVerify(header.slice('Bearer '.length), this.publicKeys, {
        audience: this.service,
        algorithms: ['EdDSA'],
        requiredClaims: ['iss', 'exp'],
        clockTolerance: TOLERANCE_SECONDS,
      });
      // The key's id is the service's name: a service can't sign in another's name.
      if (protectedHeader.kid !== payload.iss) throw new Error('issuer and key differ');
      const actor = payload['actor'] === undefined ? undefined : actorSchema.parse(payload['actor']);
      if (actor && payload.iss !== 'gateway') throw new Error('only the gateway speaks for an actor');
      const caller = { service: payload.iss as ServiceName, actor };
      if (this.verified.size >= VERIFIED_LIMIT) this.verified.clear();
      this.verified.set(header, { caller, until: payload.exp! * 1000 });
      return caller;
    } catch (cause) {
      throw new Rejected('invalid_service_token', 'The service token is not valid.', { cause });
    }
  }
}

/** Whether an answer of another service says that our token is not good there: see `refusedBy`. */
export function refusesToken(status: number, body: Buffer | string): boolean {
  if (status !== ERRORS.invalid_service_token.status) return false;
  try {
    const { error } = JSON.parse(body.toString()) as { error: { code: string } };
    return error.code === 'invalid_service_token';
  } catch {
    return false;
  }
}

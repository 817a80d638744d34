import { Injectable } from '@nestjs/common';
import { actorSchema, type Actor, type ServiceName } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { createLocalJWKSet, importJWK, jwtVerify, SignJWT, type JSONWebKeySet, type JWK } from 'jose';

const LIFETIME_SECONDS = 60;
/** A cached token is used for half its life, so that it is still good when it arrives. */
const REUSE_MS = (LIFETIME_SECONDS / 2) * 1000;
const VERIFIED_LIMIT = 1_000;

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

  /** The caller if its token was verified before and is still good: the warm path of the router, one map look-up. */
  known(header: string | undefined): Caller | undefined {
    const entry = header === undefined ? undefined : this.verified.get(header);
    return entry && entry.until > systemClock.now() ? entry.caller : undefined;
  }

  /** @throws Rejected `invalid_api_key` when the token is missing, forged, expired or for somebody else */
  async verify(header: string | undefined): Promise<Caller> {
    const known = this.known(header);
    if (known) return known;
    if (header === undefined || !header.startsWith('Bearer '))
      throw new Rejected('invalid_api_key', 'A service token is missing.');
    try {
      const { payload, protectedHeader } = await jwtVerify(header.slice('Bearer '.length), this.publicKeys, {
        audience: this.service,
        algorithms: ['EdDSA'],
        requiredClaims: ['iss', 'exp'],
        clockTolerance: 5,
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
      throw new Rejected('invalid_api_key', 'The service token is not valid.', { cause });
    }
  }
}

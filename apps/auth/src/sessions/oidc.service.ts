import { createHash, randomBytes } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { countAttempt } from './login-limits.store.js';
import type { OidcClient } from './oidc.client.js';
import type { OidcFinishRequest } from './sign-in-requests.js';
import type { SignedIn, SignInService } from './sign-in.service.js';
import { sessionTables } from './tables.js';

/** For a person to sign in at the provider. */
const TRANSACTION_MS = 10 * 60_000;
/** Sign-ins under way at once, of everybody. */
const MAX_TRANSACTIONS = 10_000;

/** Sign-in with a company's own provider, where one is configured. */
@Injectable()
export class OidcService {
  constructor(
    private readonly em: EntityManager,
    private readonly client: OidcClient | undefined,
    private readonly signIn: SignInService,
    private readonly clock: Clock,
  ) {}

  /** @throws Rejected `not_found` where no provider is configured */
  requireConfigured(): OidcClient {
    if (!this.client) throw new Rejected('not_found', 'No provider of sign-ins is configured here.');
    return this.client;
  }

  /**
   * The URL that the browser goes to, and the state that it keeps until it comes back.
   * @throws Rejected `rate_limit_exceeded`, `unavailable`
   */
  async start(
    actor: Actor,
    { organizationId }: { organizationId?: string | undefined },
  ): Promise<{ url: string; state: string; expiresAt: string }> {
    const now = this.clock.now();
    await countAttempt(this.em.fork(), 'provider-start', actor.address, now);
    const state = randomBytes(32).toString('base64url');
    const url = await this.requireConfigured().authorizationUrl(state);
    const expiresAt = rfc3339(now + TRANSACTION_MS);
    const db = sessionTables(this.em.fork());
    await db.deleteFrom('oidc_transactions').where('ends_at', '<=', rfc3339(now)).execute();
    const { open } = await db
      .selectFrom('oidc_transactions')
      .select((row) => row.fn.countAll<string>().as('open'))
      .executeTakeFirstOrThrow();
    if (Number(open) >= MAX_TRANSACTIONS)
      throw new Rejected('unavailable', 'Too many sign in at this moment.', { retryAfter: 60 });
    await db
      .insertInto('oidc_transactions')
      .values({ state_digest: digestOf(state), organization_id: organizationId ?? null, ends_at: expiresAt })
      .execute();
    return { url, state, expiresAt };
  }

  /**
   * What the provider sent the browser back with, to a session. Good once, whatever comes of it.
   * @throws Rejected `invalid_request` for a callback that is not of this state, `invalid_api_key` when the provider does
   * not confirm it, `scope_insufficient` without an invitation
   */
  async finish(actor: Actor, { state, callback }: OidcFinishRequest): Promise<SignedIn> {
    await countAttempt(this.em.fork(), 'address', actor.address, this.clock.now());
    const query = typeof callback === 'string' ? new URL(callback).searchParams : asQuery(callback);
    if (query.get('state') !== state)
      throw new Rejected('invalid_request', 'This callback is of another sign-in.', { param: 'callback' });
    const started = await sessionTables(this.em.fork())
      .deleteFrom('oidc_transactions')
      .where('state_digest', '=', digestOf(state))
      .returning(['organization_id', 'ends_at'])
      .executeTakeFirst();
    if (!started || Date.parse(started.ends_at) <= this.clock.now())
      throw new Rejected('invalid_request', 'This sign-in is over or never began: start again.', { param: 'state' });
    const identity = await this.requireConfigured().identity(query, state);
    return this.signIn.withIdentity(actor, identity, started.organization_id);
  }
}

const asQuery = ({ code, state, iss }: Exclude<OidcFinishRequest['callback'], string>): URLSearchParams =>
  new URLSearchParams({ code, state, ...(iss === undefined ? {} : { iss }) });

const digestOf = (state: string): string => createHash('sha256').update(state).digest('base64url');

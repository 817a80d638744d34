import { createHmac } from 'node:crypto';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  AuthorizationResponseError,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  ClientError,
  discovery,
  enableNonRepudiationChecks,
  fetchUserInfo,
  ResponseBodyError,
  type Configuration,
} from 'openid-client';
import type { Identity } from './sign-in.service.js';

/** For each call to the provider, in seconds. */
const TIMEOUT_SECONDS = 5;
/** Its keys and paths are asked for again after this. */
const METADATA_MS = 3_600_000;
const SCOPE = 'openid email profile';
/** What the library says of an answer that is there and is not what was asked for; anything else is the provider's fault. */
const REFUSALS: ReadonlySet<unknown> = new Set([
  'OAUTH_INVALID_RESPONSE',
  'OAUTH_JWT_CLAIM_COMPARISON_FAILED',
  'OAUTH_JWT_TIMESTAMP_CHECK_FAILED',
]);

export interface OidcSettings {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly redirectUrl: string;
  /** Plain HTTP to the provider: for development only. */
  readonly allowHttp: boolean;
}

/** Our side of OpenID Connect: the authorization code flow with PKCE and nonce. */
export class OidcClient {
  private readonly log = loggerFor('oidc');
  private provider: { readonly configuration: Promise<Configuration>; readonly until: number } | undefined;

  constructor(private readonly settings: OidcSettings) {}

  /** Where the browser goes. @param state random, kept by the browser */
  async authorizationUrl(state: string): Promise<string> {
    const parameters = {
      redirect_uri: this.settings.redirectUrl,
      scope: SCOPE,
      state,
      nonce: this.derived('nonce', state),
      code_challenge: await calculatePKCECodeChallenge(this.derived('pkce', state)),
      code_challenge_method: 'S256',
    };
    return this.asking(async (provider) => buildAuthorizationUrl(provider, parameters).href);
  }

  /**
   * Whom the provider's answer names.
   * @param query what the provider sent back with the browser
   * @throws Rejected `invalid_api_key` when the provider does not confirm it, `unavailable` when it does not answer
   */
  async identity(query: URLSearchParams, state: string): Promise<Identity> {
    const callback = new URL(this.settings.redirectUrl);
    callback.search = query.toString();
    return this.asking(async (provider) => {
      const tokens = await authorizationCodeGrant(provider, callback, {
        pkceCodeVerifier: this.derived('pkce', state),
        expectedState: state,
        expectedNonce: this.derived('nonce', state),
        idTokenExpected: true,
      });
      const claims = tokens.claims()!;
      // Many providers say the email at their userinfo endpoint only.
      const said =
        claims['email'] === undefined ? await fetchUserInfo(provider, tokens.access_token, claims.sub) : claims;
      const { email, email_verified: verified, name } = said as Record<string, unknown>;
      return {
        issuer: claims.iss,
        subject: claims.sub,
        verifiedEmail: typeof email === 'string' && verified === true ? email.trim().toLowerCase() : undefined,
        name: typeof name === 'string' && name.trim() !== '' ? name.trim().slice(0, 80) : undefined,
      };
    });
  }

  /** The secrets of one sign-in are made from its state and the client's secret: so nothing of them is stored. */
  private derived(what: 'pkce' | 'nonce', state: string): string {
    return createHmac('sha256', this.settings.clientSecret).update(`${what}:${state}`).digest('base64url');
  }

  private async asking<T>(work: (provider: Configuration) => Promise<T>): Promise<T> {
    let found = false;
    try {
      const provider = await this.discovered();
      found = true;
      return await work(provider);
    } catch (cause) {
      if (found && saysNo(cause))
        throw new Rejected('invalid_api_key', 'The provider did not confirm this sign-in.', { cause });
      // Without its texts: they may quote what was sent.
      const { name, code, error } = cause as { name?: string; code?: string; error?: string };
      this.log.warn({ name, code, error }, 'the provider does not answer as it should');
      throw new Rejected('unavailable', 'The provider of sign-ins does not answer.', { retryAfter: 5, cause });
    }
  }

  private discovered(): Promise<Configuration> {
    if (this.provider && this.provider.until > systemClock.monotonic()) return this.provider.configuration;
    const { issuer, clientId, clientSecret, allowHttp } = this.settings;
    const configuration = discovery(new URL(issuer), clientId, clientSecret, undefined, {
      timeout: TIMEOUT_SECONDS,
      // The id token's signature counts, not only that it came over TLS.
      execute: [enableNonRepudiationChecks, ...(allowHttp ? [allowInsecureRequests] : [])],
    });
    this.provider = { configuration, until: systemClock.monotonic() + METADATA_MS };
    configuration.catch(() => (this.provider = undefined));
    return configuration;
  }
}

/** The person did not agree, the code is no code, or what came back is not what was asked for. */
function saysNo(error: unknown): boolean {
  if (error instanceof AuthorizationResponseError) return true;
  if (error instanceof ResponseBodyError) return error.error === 'invalid_grant';
  return error instanceof ClientError && REFUSALS.has(error.code);
}

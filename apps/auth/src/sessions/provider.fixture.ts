import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Provider } from 'oidc-provider';

/** Somebody at the provider. */
export interface Account {
  readonly sub: string;
  readonly email?: string;
  readonly email_verified?: boolean;
  readonly name?: string;
}

export const CLIENT = {
  clientId: 'sluice',
  clientSecret: 'a secret of the tests, long enough',
  redirectUrl: 'http://127.0.0.1:9/signed-in',
};

/** A real provider of sign-ins on loopback. Who sits in front of the browser is given, and agrees to everything. */
export async function startProvider({ emailInIdToken = true } = {}) {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const accounts = new Map<string, Account>();
  let inFront: Account | undefined;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: CLIENT.clientId,
        client_secret: CLIENT.clientSecret,
        redirect_uris: [CLIENT.redirectUrl],
        token_endpoint_auth_method: 'client_secret_post',
      },
    ],
    pkce: { required: () => true },
    conformIdTokenClaims: !emailInIdToken,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    cookies: { keys: ['of the tests'] },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_context, { uid }) => `/sign-in/${uid}` },
    findAccount: (_context, id) => {
      const account = accounts.get(id);
      return account && { accountId: id, claims: () => ({ ...account }) };
    },
    async loadExistingGrant(context) {
      const grant = new context.oidc.provider.Grant({
        clientId: CLIENT.clientId,
        accountId: context.oidc.session!.accountId!,
      });
      grant.addOIDCScope('openid email profile');
      await grant.save();
      return grant;
    },
  });
  const handle = provider.callback();
  server.on('request', (request, response) => {
    if (!request.url?.startsWith('/sign-in/')) return void handle(request, response);
    const result = inFront
      ? { login: { accountId: inFront.sub } }
      : { error: 'access_denied', error_description: 'nobody is there' };
    return void provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  });

  /** What a browser does: it follows every redirect, with its cookies, until it is sent back to the client. */
  async function browse(url: string, account: Account | undefined): Promise<string> {
    inFront = account;
    if (account) accounts.set(account.sub, account);
    const cookies = new Map<string, string>();
    for (let at = url, hops = 0; hops < 10; hops++) {
      const cookie = Array.from(cookies, ([name, value]) => `${name}=${value}`).join('; ');
      const response = await fetch(at, { redirect: 'manual', headers: { cookie } });
      for (const set of response.headers.getSetCookie()) {
        const [name, value] = set.split(';', 1)[0]!.split('=', 2) as [string, string];
        cookies.set(name, value);
      }
      const location = response.headers.get('location');
      if (location === null) throw new Error(`the provider says ${response.status}: ${await response.text()}`);
      at = new URL(location, at).href;
      if (at.startsWith(CLIENT.redirectUrl)) return at;
    }
    throw new Error('the provider sends in circles');
  }

  return {
    settings: { issuer, ...CLIENT, allowHttp: true },
    browse,
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

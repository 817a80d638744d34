import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import type { Credential } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { Rejected } from '@sluice/contracts/errors';
import type { ServiceTokens } from '@sluice/service-kit';
import fastify, { type FastifyInstance } from 'fastify';
import { register } from 'prom-client';
import type { Explanations } from '../explain/explanations.service.js';
import { keysWithAuth } from '../keys/keys.fixture.js';
import type { PreviousUses } from '../keys/previous-uses.service.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { AuditClient } from './audit.client.js';
import type { KeyOwners } from './key-owners.client.js';
import { ManagementRoute } from './management.route.js';
import { Owners } from './owners.client.js';

let auth: ReturnType<typeof keysWithAuth>;
let owner: Server;
let gateway: FastifyInstance;
let route: ManagementRoute;
let url: string;
/** What an owner answers. */
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let commands: string[];
/** What the gateway itself answers. */
let explain: (actor: Actor, id: string) => object;
/** Throws for a key that the actor may not see. */
let owns: (actor: Actor, id: string) => void;
let actor: Actor | undefined;
/** Happens while the actor is signed. */
let meanwhile: () => void;

const admin = (change: Partial<Credential> = {}) => aCredential({ keyId: 'mk1', scopes: ['admin'], ...change });

beforeEach(async () => {
  register.clear();
  auth = keysWithAuth();
  commands = [];
  explain = () => ({});
  owns = () => {};
  meanwhile = () => {};
  answer = (_request, response) => response.end('{"success":true}');
  owner = createServer((request, response) => {
    commands.push(`${request.method} ${request.url}`);
    request.resume();
    request.on('end', () => answer(request, response));
  });
  await new Promise<void>((resolve) => owner.listen(0, '127.0.0.1', resolve));
  const tokens = {
    headerFor: async (_owner: string, given: Actor) => {
      actor = given;
      meanwhile();
      return 'Bearer t';
    },
  } as unknown as ServiceTokens;
  const ownerUrl = `http://127.0.0.1:${(owner.address() as AddressInfo).port}`;
  route = new ManagementRoute(
    new Owners({ auth: ownerUrl, metering: ownerUrl }, tokens),
    auth.keys,
    tokens,
    { note: () => {} } as unknown as PreviousUses,
    { takes: () => false } as unknown as AuditClient,
    { note: () => {} } as unknown as Refusals,
    { find: async (...asked: [Actor, string]) => explain(...asked) } as unknown as Explanations,
    { require: async (...asked: [Actor, string]) => owns(...asked), close: async () => {} } as unknown as KeyOwners,
  );
  gateway = fastify({ trustProxy: ['127.0.0.1'] });
  gateway.removeAllContentTypeParsers();
  gateway.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  gateway.all('/*', (request, reply) => route.handle(request, reply));
  url = await gateway.listen({ port: 0, host: '127.0.0.1' });
});
afterEach(async () => {
  owner.closeAllConnections();
  owner.close();
  await gateway.close();
  await route.close();
});

const call = async (secret: string | undefined, method: string, path: string, headers: Record<string, string> = {}) => {
  const own = secret === undefined ? {} : { authorization: `Bearer ${secret}` };
  const response = await fetch(url + path, { method, headers: { ...own, ...headers } });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text };
};
const codeOf = ({ text }: { text: string }) => (JSON.parse(text) as { error: { code: string } }).error.code;

describe('the management plane', () => {
  it("passes the owner's own headers on, and no others", async () => {
    answer = (_request, response) => {
      const shown = { etag: '"3"', 'retry-after': '7', location: '/api/keys/1', 'content-disposition': 'attachment' };
      response.writeHead(202, { ...shown, 'content-type': 'text/csv', 'x-internal': 'yes', 'set-cookie': 'a=b' });
      response.end('a,b');
    };
    const got = await call(auth.add('management', admin()), 'GET', '/api/keys?limit=5');
    expect([got.status, got.text, commands]).toEqual([202, 'a,b', ['GET /api/keys?limit=5']]);
    for (const [name, value] of Object.entries({ etag: '"3"', 'retry-after': '7', location: '/api/keys/1' }))
      expect(got.headers.get(name)).toBe(value);
    expect(got.headers.get('content-disposition')).toBe('attachment');
    expect(got.headers.get('content-type')).toBe('text/csv');
    expect(got.headers.get('x-internal')).toBeNull();
    expect(got.headers.get('set-cookie')).toBeNull();
  });

  it('takes a request without a body for one, whatever type it names', async () => {
    let type: string | undefined = 'none yet';
    answer = (request, response) => {
      type = request.headers['content-type'];
      response.end('{}');
    };
    const json = { 'content-type': 'application/json' };
    expect((await call(auth.add('management', admin()), 'DELETE', '/api/keys/k1', json)).status).toBe(200);
    expect(type).toBeUndefined();
  });

  it.each([
    ['a management key', 'management' as const, admin(), 'management'],
    [
      'a session',
      'session' as const,
      aCredential({ keyId: 's1', role: 'owner', memberId: 'm1', scopes: [] }),
      'session',
    ],
  ])('says to the owner who %s is', async (_what, kind, credential, expected) => {
    await call(auth.add(kind, credential), 'GET', '/api/keys');
    expect(actor).toMatchObject({
      kind: expected,
      keyId: credential.keyId,
      memberId: credential.memberId,
      organizationId: 'o1',
      address: '127.0.0.1',
    });
  });

  it.each([
    ['is revoked', 401, 'invalid_api_key', (secret: string) => auth.remove(secret)],
    [
      'loses its scope',
      403,
      'scope_insufficient',
      (secret: string) => auth.set(secret, admin({ version: 2, scopes: [] })),
    ],
    [
      'may not be used from here',
      403,
      'ip_not_allowed',
      (secret: string) => auth.set(secret, admin({ version: 2, ipAllow: [] })),
    ],
  ] as const)('sends no command of a key that %s while its actor is signed', async (_how, status, code, change) => {
    const secret = auth.add('management', admin());
    meanwhile = () => {
      change(secret);
      auth.keys.invalidate({ id: 'mk1', version: 2, inflight: 'drain' });
    };
    const got = await call(secret, 'DELETE', '/api/keys/k1');
    expect([got.status, codeOf(got), commands]).toEqual([status, code, []]);
  });

  it('gives out nothing that was read on a key which ended meanwhile', async () => {
    const secret = auth.add('management', admin());
    answer = (_request, response) => {
      auth.remove(secret);
      auth.keys.invalidate({ id: 'mk1', version: 2, inflight: 'cut' });
      response.end('{"data":"secret"}');
    };
    const got = await call(secret, 'GET', '/api/keys');
    expect([got.status, got.text]).toEqual([401, expect.not.stringContaining('secret')]);
  });

  it('explains a request to who may read usage, asking no owner, and not on a key which ended meanwhile', async () => {
    const secret = auth.add('management', admin({ project: 'p1' }));
    explain = ({ organizationId, project }, id) => ({ organizationId, project, id });
    const got = await call(secret, 'GET', '/api/explain/r1?x=/y');
    const shown = { success: true, data: { organizationId: 'o1', project: 'p1', id: 'r1' } };
    expect([got.status, JSON.parse(got.text), commands]).toEqual([200, shown, []]);
    const mayNot = await call(
      auth.add('management', admin({ keyId: 'mk2', scopes: ['inference:read'] })),
      'GET',
      '/api/explain/r1',
    );
    expect([mayNot.status, codeOf(mayNot)]).toEqual([403, 'scope_insufficient']);
    explain = () => {
      auth.remove(secret);
      auth.keys.invalidate({ id: 'mk1', version: 2, inflight: 'cut' });
      return { cost: 'secret' };
    };
    const late = await call(secret, 'GET', '/api/explain/r1');
    expect([late.status, late.text]).toEqual([401, expect.not.stringContaining('secret')]);
  });

  it("asks metering for a key's usage when auth says that the actor may see the key, and says 404 when it does not", async () => {
    const secret = auth.add('management', admin({ project: 'p1' }));
    const asked: unknown[] = [];
    owns = ({ organizationId, project }, id) => asked.push([organizationId, project, id]);
    expect((await call(secret, 'GET', '/api/keys/k1/usage?granularity=total')).status).toBe(200);
    expect([asked, commands]).toEqual([[['o1', 'p1', 'k1']], ['GET /api/keys/k1/usage?granularity=total']]);
    owns = () => {
      throw new Rejected('not_found');
    };
    const others = await call(secret, 'GET', '/api/keys/k2/usage');
    expect([others.status, codeOf(others), commands.length]).toEqual([404, 'not_found', 1]);
  });

  it('answers the command by which a credential ends itself', async () => {
    const secret = auth.add('session', aCredential({ keyId: 's1', role: 'viewer', memberId: 'm1', scopes: [] }));
    answer = (_request, response) => {
      auth.remove(secret);
      auth.keys.invalidate({ id: 's1', version: 2, inflight: 'cut' });
      response.end('{"success":true}');
    };
    expect((await call(secret, 'POST', '/api/auth/logout')).status).toBe(200);
    expect((await call(secret, 'GET', '/api/auth/me')).status).toBe(401);
  });

  it('takes the address from the right of what trusted proxies say', async () => {
    const secret = auth.add('management', admin({ ipAllow: ['192.0.2.0/24'] }));
    const from = (text: string) => call(secret, 'GET', '/api/keys', { 'x-forwarded-for': text });
    expect((await from('192.0.2.7')).status).toBe(200);
    expect(actor!.address).toBe('192.0.2.7');
    // What the client itself wrote stands on the left.
    const forged = await from('192.0.2.7, 198.51.100.1');
    expect([forged.status, codeOf(forged)]).toEqual([403, 'ip_not_allowed']);
    expect((await call(secret, 'GET', '/api/keys')).status).toBe(403);
  });

  it('refuses in the dialect of the path', async () => {
    const openai = JSON.parse((await call(undefined, 'GET', '/v1/api-keys')).text) as object;
    expect(openai).toEqual({
      error: expect.objectContaining({ code: 'invalid_api_key', type: 'authentication_error' }),
    });
    const own = JSON.parse((await call(undefined, 'GET', '/api/keys')).text) as object;
    expect(own).toMatchObject({ success: false, error: { code: 'invalid_api_key' } });
  });
});

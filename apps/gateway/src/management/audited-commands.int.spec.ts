import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { AuditedCommand } from '@sluice/contracts/audit';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { Rejected } from '@sluice/contracts/errors';
import type { ServiceCall, ServiceClient, ServiceTokens } from '@sluice/service-kit';
import fastify, { type FastifyInstance } from 'fastify';
import { register } from 'prom-client';
import { keysWithAuth } from '../keys/keys.fixture.js';
import type { PreviousUses } from '../keys/previous-uses.service.js';
import type { Explanations } from '../explain/explanations.service.js';
import type { Refused, Refusals } from '../refusals/refusals.service.js';
import { AuditClient } from './audit.client.js';
import type { KeyOwners } from './key-owners.client.js';
import { ManagementRoute } from './management.route.js';
import { Owners } from './owners.client.js';

let auth: ReturnType<typeof keysWithAuth>;
let billing: Server;
let gateway: FastifyInstance;
let route: ManagementRoute;
let url: string;
/** What happened, in its order. */
let steps: string[];
let recorded: AuditedCommand[];
let refused: (Refused & { code: string })[];
let answer: (response: ServerResponse) => void;
/** auth's answer to a record. */
let record: () => void;

beforeEach(async () => {
  register.clear();
  auth = keysWithAuth();
  [steps, recorded, refused] = [[], [], []];
  answer = (response) => response.end('{"success":true}');
  record = () => {};
  billing = createServer((request, response) => {
    steps.push('billing');
    request.resume();
    request.on('end', () => answer(response));
  });
  await new Promise<void>((resolve) => billing.listen(0, '127.0.0.1', resolve));
  const tell = async ({ body }: ServiceCall) => {
    const command = body as AuditedCommand;
    steps.push(command.status === undefined ? 'recorded' : 'outcome');
    record();
    recorded.push(command);
  };
  const refusals = {
    note: (_request: unknown, why: { code: string }, about: Refused) => refused.push({ code: why.code, ...about }),
  };
  const tokens = { headerFor: async () => 'Bearer t' } as unknown as ServiceTokens;
  route = new ManagementRoute(
    new Owners({ billing: `http://127.0.0.1:${(billing.address() as AddressInfo).port}` }, tokens),
    auth.keys,
    tokens,
    { note: () => {} } as unknown as PreviousUses,
    new AuditClient({ tell } as unknown as ServiceClient),
    refusals as unknown as Refusals,
    {} as Explanations,
    { close: async () => {} } as KeyOwners,
  );
  gateway = fastify();
  gateway.removeAllContentTypeParsers();
  gateway.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  gateway.all('/*', (request, reply) => route.handle(request, reply));
  url = await gateway.listen({ port: 0, host: '127.0.0.1' });
});
afterEach(async () => {
  billing.closeAllConnections();
  billing.close();
  await gateway.close();
  await route.close();
});

async function call(method: string, path: string, body?: unknown) {
  const operator = auth.add(
    'operator',
    aCredential({ keyId: 'op1', kind: 'operator', organizationId: null, scopes: [] }),
  );
  const response = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${operator}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, text: await response.text() };
}

describe('a command that billing carries out', () => {
  it('is recorded before it is forwarded, with the fields that count, and its outcome after', async () => {
    expect((await call('POST', '/api/operator/credits?x=1', { amount: '10', more: 1 })).status).toBe(200);
    expect(steps).toEqual(['recorded', 'billing', 'outcome']);
    const what = { action: 'POST /api/operator/credits', target: '/api/operator/credits' };
    expect(recorded).toEqual([
      { ...what, fields: { amount: '10' } },
      { ...what, fields: {}, status: 200 },
    ]);
  });

  it('is not carried out when it can’t be recorded: 503', async () => {
    record = () => {
      throw new Rejected('internal_error');
    };
    const { status, text } = await call('POST', '/api/operator/credits', { amount: '10' });
    expect([status, text]).toEqual([503, expect.stringContaining('so it was not carried out')]);
    expect(steps).toEqual(['recorded']);
  });

  it('is answered as billing did when only the outcome can’t be recorded', async () => {
    record = () => {
      if (steps.length > 1) throw new Rejected('unavailable');
    };
    expect((await call('POST', '/api/operator/credits', { amount: '10' })).status).toBe(200);
  });

  it('leaves a question alone', async () => {
    await call('GET', '/api/operator/prices');
    expect(steps).toEqual(['billing']);
  });
});

describe('a refused command is kept to be explained', () => {
  it('by its owner, with the owner’s code and status', async () => {
    answer = (response) => {
      response.statusCode = 409;
      response.end('{"success":false,"error":{"code":"conflict","message":"No."}}');
    };
    await call('POST', '/api/operator/credits', {});
    expect(refused).toEqual([{ code: 'conflict', operation: 'POST /api/operator/credits', status: 409 }]);
  });

  it('by the gateway, on the pattern of the path and not on what the client wrote', async () => {
    await call('GET', '/api/keys/some-id');
    expect(refused).toEqual([{ code: 'wrong_credential_type', operation: 'GET /api/keys/:id' }]);
  });

  it('and not what an owner says in words of its own', async () => {
    answer = (response) => {
      response.statusCode = 500;
      response.end('<html>');
    };
    await call('GET', '/api/operator/prices');
    expect(refused).toEqual([]);
  });
});

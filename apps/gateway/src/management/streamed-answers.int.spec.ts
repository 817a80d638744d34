import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { aCredential } from '@sluice/contracts/credential.fixture';
import type { ServiceTokens } from '@sluice/service-kit';
import { until } from '@sluice/testing';
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

const PART = Buffer.alloc(64 * 1024, 'a');
const MOST = 64 * 1024 * 1024;

let auth: ReturnType<typeof keysWithAuth>;
let metering: Server;
let gateway: FastifyInstance;
let route: ManagementRoute;
let url: string;
let secret: string;
let answer: (response: ServerResponse) => void;

beforeEach(async () => {
  register.clear();
  auth = keysWithAuth();
  secret = auth.add('management', aCredential({ keyId: 'mk1', scopes: ['admin'] }));
  metering = createServer((request, response) => {
    request.resume();
    answer(response);
  });
  await new Promise<void>((resolve) => metering.listen(0, '127.0.0.1', resolve));
  const tokens = { headerFor: async () => 'Bearer t' } as unknown as ServiceTokens;
  route = new ManagementRoute(
    new Owners({ metering: `http://127.0.0.1:${(metering.address() as AddressInfo).port}` }, tokens),
    auth.keys,
    tokens,
    { note: () => {} } as unknown as PreviousUses,
    { takes: () => false } as unknown as AuditClient,
    { note: () => {} } as unknown as Refusals,
    {} as Explanations,
    { close: async () => {} } as KeyOwners,
  );
  gateway = fastify();
  gateway.all('/*', (request, reply) => route.handle(request, reply));
  url = await gateway.listen({ port: 0, host: '127.0.0.1' });
});
afterEach(async () => {
  metering.closeAllConnections();
  metering.close();
  await gateway.close();
  await route.close();
});

const ask = (signal?: AbortSignal) =>
  fetch(`${url}/api/usage/export`, {
    headers: { authorization: `Bearer ${secret}` },
    ...(signal ? { signal } : {}),
  });
/** Writes until the other side takes no more; how much it took. */
async function fill(response: ServerResponse, most: number): Promise<number> {
  let written = 0;
  for (; written < most; written += PART.length) {
    if (response.write(PART)) continue;
    const drained = new Promise<boolean>((resolve) => response.once('drain', () => resolve(true)));
    if (!(await Promise.race([drained, sleep(1_000, false)]))) break;
  }
  return written;
}

describe('an answer of any length', () => {
  it('comes as it is made, with its name, and ends where it ended', async () => {
    let more = () => {};
    answer = (response) => {
      response.writeHead(200, { 'content-type': 'text/csv', 'content-disposition': 'attachment; filename="u.csv"' });
      response.write('one\n');
      more = () => response.end('two\n');
    };
    const response = await ask();
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/csv']);
    expect(response.headers.get('content-disposition')).toBe('attachment; filename="u.csv"');
    const reader = response.body!.getReader();
    const first = await reader.read();
    expect(new TextDecoder().decode(first.value)).toBe('one\n');
    more();
    const second = await reader.read();
    expect(new TextDecoder().decode(second.value)).toBe('two\n');
    expect((await reader.read()).done).toBe(true);
  });

  it('that its owner breaks off does not end well for the client either', async () => {
    answer = (response) => {
      response.writeHead(200, { 'content-type': 'text/csv' });
      response.write('one\n', () => setImmediate(() => response.destroy()));
    };
    const response = await ask();
    await expect(response.text()).rejects.toThrow();
  });

  it('is broken off when the credential ends', async () => {
    let part = () => {};
    answer = (response) => {
      response.writeHead(200, { 'content-type': 'text/csv' });
      part = () => void response.write('row\n');
      part();
    };
    const response = await ask();
    const reader = response.body!.getReader();
    await reader.read();
    auth.remove(secret);
    auth.keys.invalidate({ id: 'mk1', version: 2, inflight: 'cut' });
    part();
    await expect(reader.read()).rejects.toThrow();
  });

  it('is asked for no more when the client has gone', async () => {
    let closed = false;
    answer = (response) => {
      response.on('close', () => (closed = true));
      response.writeHead(200, { 'content-type': 'text/csv' });
      response.write('one\n');
    };
    const gone = new AbortController();
    const response = await ask(gone.signal);
    await response.body!.getReader().read();
    gone.abort();
    await until(() => closed);
  });

  it('waits for a client that does not read, and is held nowhere meanwhile', async () => {
    const taken = Promise.withResolvers<number>();
    answer = (response) => {
      response.writeHead(200, { 'content-type': 'text/csv' });
      taken.resolve(fill(response, MOST));
    };
    const gone = new AbortController();
    await ask(gone.signal);
    // What the sockets on the way hold, and not what there is.
    expect(await taken.promise).toBeLessThan(MOST);
    gone.abort();
  });

  it('that is a refusal comes as one', async () => {
    answer = (response) => {
      response.writeHead(400, { 'content-type': 'application/json' });
      response.end('{"success":false,"error":{"code":"invalid_request","message":"from: no."}}');
    };
    const response = await ask();
    expect([response.status, await response.json()]).toMatchObject([400, { error: { code: 'invalid_request' } }]);
  });

  it('is unavailable where its owner is', async () => {
    metering.close();
    metering.closeAllConnections();
    const response = await ask();
    expect([response.status, await response.json()]).toMatchObject([503, { error: { code: 'unavailable' } }]);
  });
});

import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { managementProblem } from './problem.js';
import { ServiceClient } from './service-client.js';
import { serviceKeys } from './service-keys.js';
import { ServiceTokens } from './service-tokens.js';

const { privateKeys, publicKeys } = await serviceKeys('gateway', 'auth');

let answer: (response: ServerResponse, authorization: string) => void;
let asked: number;
let server: Server;
let client: ServiceClient;
beforeEach(async () => {
  asked = 0;
  server = createServer((request, response) => {
    asked++;
    answer(response, request.headers.authorization!);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const tokens = new ServiceTokens('gateway', privateKeys.gateway, publicKeys);
  client = new ServiceClient('auth', `http://127.0.0.1:${(server.address() as AddressInfo).port}`, tokens);
});
afterEach(async () => {
  await client.close();
  server.closeAllConnections();
  server.close();
});

const tell = () => client.tell({ method: 'POST', path: '/internal/x' });
const refuse =
  (code: ConstructorParameters<typeof Rejected>[0], status: number, headers: Record<string, string> = {}) =>
  (response: ServerResponse) =>
    response.writeHead(status, headers).end(JSON.stringify(managementProblem(new Rejected(code), 'r')));

describe('a service', () => {
  it('that refuses our token is unavailable, with retry-after, however often, and is asked each time', async () => {
    answer = refuse('invalid_service_token', 401);
    for (let i = 0; i < 30; i++) await expect(tell()).rejects.toMatchObject({ code: 'unavailable', retryAfter: 1 });
    expect(asked).toBe(30);
    answer = (response) => response.end();
    await tell();
  });

  it('that refused a token is shown another one: a clock that was set right makes it good', async () => {
    const shown = new Set<string>();
    answer = (response, authorization) => {
      shown.add(authorization);
      refuse('invalid_service_token', 401)(response);
    };
    await expect(tell()).rejects.toThrow();
    // Of the same second it would be the same.
    const { iat } = JSON.parse(Buffer.from([...shown][0]!.split('.')[1]!, 'base64url').toString()) as { iat: number };
    while (Math.floor(Date.now() / 1000) === iat) await new Promise((resolve) => setTimeout(resolve, 50));
    await expect(tell()).rejects.toThrow();
    expect(shown.size).toBe(2);
  });

  it('that refuses what was asked is passed on as it is, with its retry-after', async () => {
    answer = refuse('invalid_api_key', 401);
    await expect(tell()).rejects.toMatchObject({ code: 'invalid_api_key' });
    answer = refuse('rate_limit_exceeded', 429, { 'retry-after': '7' });
    await expect(tell()).rejects.toMatchObject({ code: 'rate_limit_exceeded', retryAfter: 7 });
  });

  it('whose 401 is not of our dialect is unavailable', async () => {
    answer = (response) => response.writeHead(401).end('<html>');
    await expect(tell()).rejects.toMatchObject({ code: 'unavailable' });
  });
});

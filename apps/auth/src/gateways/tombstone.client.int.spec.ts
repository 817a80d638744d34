import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { managementProblem, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { until } from '@sluice/testing';
import { register } from 'prom-client';
import { TombstoneClient } from './tombstone.client.js';

const keys = await serviceKeys('auth', 'gateway');
const others = await serviceKeys('auth', 'gateway');
const right = new ServiceTokens('gateway', keys.privateKeys.gateway, keys.publicKeys);
const wrong = new ServiceTokens('gateway', keys.privateKeys.gateway, others.publicKeys);
const boot = '01930000-0000-7000-8000-000000000000';
const tombstones = [{ id: 'k1', version: 2, inflight: 'cut' as const }];

/** With what the gateway verifies. */
let verifying: ServiceTokens;
let gateway: Server;
let client: TombstoneClient;
beforeEach(async () => {
  verifying = right;
  gateway = createServer((request, response) => {
    request.resume();
    verifying.verify(request.headers.authorization).then(
      () => response.end(JSON.stringify({ boot, tombstones })),
      (error: Rejected) => response.writeHead(401).end(JSON.stringify(managementProblem(error, 'r'))),
    );
  });
  await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve));
  client = new TombstoneClient(new ServiceTokens('auth', keys.privateKeys.auth, keys.publicKeys));
});
afterEach(async () => {
  await client.close();
  gateway.closeAllConnections();
  gateway.close();
});

const refusals = async () =>
  (await register.getSingleMetric('service_tokens_refused_total')!.get()).values.find(
    ({ labels }) => labels['by'] === 'gateway',
  )?.value ?? 0;

describe('a gateway that refuses the service token of auth', () => {
  it('has confirmed nothing, is counted, and confirms the same push when it takes the tokens again', async () => {
    verifying = wrong;
    const url = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`;
    let confirmed: boolean | undefined;
    const pushed = client
      .confirmed({ boot, url }, tombstones, AbortSignal.timeout(60_000))
      .then((answer) => (confirmed = answer));
    await until(async () => (await refusals()) >= 2);
    expect(confirmed).toBeUndefined();
    verifying = right;
    expect(await pushed).toBe(true);
  });
});

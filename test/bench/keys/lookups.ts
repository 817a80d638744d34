import { join } from 'node:path';
import { lookupResponseSchema } from '@sluice/contracts/auth';
import { systemId } from '@sluice/primitives/id';
import { ServiceTokens } from '@sluice/service-kit';
import { Pool } from 'undici';
import { keptSecrets } from '../../../deploy/local/secrets.ts';
import { progressOf } from '../../load/replay/progress.ts';
import type { Random } from '../../prove/runner/random.ts';
import type { TestStack } from '../../stack.ts';
import { digestOf, organizationOf } from './made-up.ts';

/** A process that has just started is no measure of one that runs. */
const WARM_UP = 500;

export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface LookupsOrder {
  readonly keys: number;
  readonly lookups: number;
  readonly concurrency: number;
  readonly random: Random;
  readonly stopping: AbortSignal;
}

/** As a gateway asks: auth's real endpoint over keep-alive connections, each time for a key nobody asked for before. */
export async function coldLookups(stack: TestStack, order: LookupsOrder): Promise<Latency> {
  const { keys, lookups, concurrency, random, stopping } = order;
  const secrets = await keptSecrets(join(stack.dir, 'secrets.json'));
  const tokens = new ServiceTokens('gateway', secrets.servicePrivateKeys.gateway, secrets.servicePublicKeys);
  const pool = new Pool(stack.urls.auth, { connections: concurrency });
  const boot = systemId();
  const ask = async (method: 'PUT' | 'POST' | 'DELETE', path: string, body: unknown): Promise<unknown> => {
    const authorization = await tokens.headerFor('auth');
    const headers = { authorization, 'content-type': 'application/json' };
    const response = await pool.request({ method, path, headers, body: JSON.stringify(body) });
    const text = await response.body.text();
    if (response.statusCode !== 200) throw new Error(`${method} ${path}: ${response.statusCode} ${text}`);
    return JSON.parse(text);
  };
  // Nobody listens there, and nothing is revoked meanwhile.
  await ask('PUT', `/internal/gateways/${boot}`, { url: 'http://127.0.0.1:1' });
  const chosen = chooseDistinct(Math.min(keys, lookups + WARM_UP), keys, random);
  const progress = progressOf('look-ups', chosen.length);
  const took: number[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < chosen.length && !stopping.aborted) {
      const at = next++;
      const from = performance.now();
      const answer = await ask('POST', '/internal/lookups', { boot, digest: digestOf(chosen[at]!) });
      const milliseconds = performance.now() - from;
      const { credential } = lookupResponseSchema.parse(answer);
      if (credential.organizationId !== organizationOf(chosen[at]!)) throw new Error('auth answered with another key');
      if (at >= chosen.length - lookups) took.push(milliseconds);
      progress.set(next);
    }
  };
  try {
    await Promise.all(Array.from({ length: concurrency }, worker));
  } finally {
    progress.end();
    await ask('DELETE', `/internal/gateways/${boot}`, {}).catch(() => {});
    await pool.close();
  }
  took.sort((a, b) => a - b);
  const at = (share: number) => Math.round((took[Math.floor(share * (took.length - 1))] ?? NaN) * 100) / 100;
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

function chooseDistinct(count: number, below: number, random: Random): number[] {
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(Math.floor(random.next() * below));
  return [...chosen];
}

// auth as a process on a database of its own, called as the gateway calls it: with an actor.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemId } from '@sluice/primitives/id';
import { serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { freePorts } from '@sluice/testing';
import type { Actor } from '@sluice/contracts/actor';
import { runOnce, Supervised, type Program } from '../../../deploy/local/supervisor.ts';

const SCRIPT = fileURLToPath(new URL('../../../apps/auth/dist/main.js', import.meta.url));
const READY_MS = 60_000;

export class AuthProcess {
  private readonly process: Supervised;
  private readonly url: string;
  private readonly tokens: ServiceTokens;

  private constructor(process: Supervised, url: string, tokens: ServiceTokens) {
    this.process = process;
    this.url = url;
    this.tokens = tokens;
  }

  /** On a migrated database, ready. Nothing else is there: no broker, no billing. */
  static async start(databaseUrl: string, dir: string, headsFile: string): Promise<AuthProcess> {
    const [port, nobody] = await freePorts(2);
    const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
    const url = `http://127.0.0.1:${port}`;
    const program: Program = {
      name: 'auth',
      script: SCRIPT,
      log: join(dir, 'auth.log'),
      readyUrl: `${url}/readyz`,
      env: {
        PORT: String(port),
        DATABASE_URL: databaseUrl,
        NATS_URL: `nats://127.0.0.1:${nobody}`,
        BILLING_URL: `http://127.0.0.1:${nobody}`,
        SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.auth),
        SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
        AUDIT_HEADS_FILE: headsFile,
      },
    };
    await runOnce({ ...program, args: ['--migrate'] });
    const auth = new AuthProcess(
      new Supervised(program, () => {}),
      url,
      new ServiceTokens('gateway', privateKeys.gateway, publicKeys),
    );
    auth.process.start();
    await auth.process.ready(READY_MS);
    return auth;
  }

  /** A new process: it exports the heads at its start. */
  async restart(): Promise<void> {
    await this.process.stop();
    this.process.resume();
    await this.process.ready(READY_MS);
  }

  stop(): Promise<void> {
    return this.process.stop();
  }

  /** @throws Error unless it is answered with 2xx */
  async call<T>(actor: Actor, method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        authorization: await this.tokens.headerFor('auth', actor),
        'x-request-id': actor.requestId,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text === '' ? undefined : (JSON.parse(text) as { data: T }).data) as T;
  }
}

const nobodys = { memberId: null, role: null, project: null, scopes: ['admin' as const] };

export const operator = (address: string): Actor => ({
  ...nobodys,
  kind: 'operator',
  keyId: 'op-proof',
  organizationId: null,
  requestId: systemId(),
  address,
});
export const manager = (organizationId: string, keyId: string, address: string): Actor => ({
  ...nobodys,
  kind: 'management',
  keyId,
  organizationId,
  requestId: systemId(),
  address,
});

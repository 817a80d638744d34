import { setTimeout as sleep } from 'node:timers/promises';
import { call } from '../../stack.ts';
import type { Cluster } from '../revocation/cluster.ts';
import type { IssuedKey } from './caller.ts';
import { HOME, NO_LIMITS, type Limits, type PlannedKey, type Scope } from './plan.ts';

/** A key always has a limit of requests; this one nobody reaches. */
const NO_RPM = 10_000_000;
const SEEN_BY_BILLING_MS = 30_000;
const MODEL = 'demo/small-7b';

/** Makes keys, and what they are of, through the public API. */
export class Registry {
  private readonly cluster: Cluster;
  private readonly managementKeys = new Map<string, string>();
  private readonly limited = new Set<string>();

  constructor(cluster: Cluster) {
    this.cluster = cluster;
    this.managementKeys.set(HOME, cluster.stack.demo.managementKey);
  }

  /** Its organization and project too, with their limits, where they are not there yet. @throws Error on a refusal */
  async issue(planned: PlannedKey): Promise<IssuedKey> {
    const { name, organization, project, scopes } = planned;
    const manager = this.managementKeys.get(organization) ?? (await this.makeOrganization(organization));
    for (const scope of scopes) {
      const id = `${organization} ${scope.kind} ${scope.name}`;
      if (scope.kind === 'key' || this.limited.has(id)) continue;
      this.limited.add(id);
      await this.limit(manager, scope);
    }
    const own = scopes.find(({ kind }) => kind === 'key');
    const limits = limitsOf({ ...NO_LIMITS, ...own, rpm: own?.rpm ?? NO_RPM });
    const body = { name, project, access: ['default/*'], ...given(limits) };
    const { apiKey } = await this.must<{ apiKey: string }>(manager, 'POST', '/api/keys/credit', body);
    return { ...planned, secret: apiKey };
  }

  private async limit(manager: string, scope: Scope): Promise<void> {
    const limits = limitsOf(scope);
    if (scope.kind === 'organization') return void (await this.must(manager, 'PUT', '/api/settings', { limits }));
    await this.must(manager, 'POST', '/api/projects', { slug: scope.name });
    await this.must(manager, 'PUT', `/api/projects/${scope.name}`, { limits });
  }

  private async makeOrganization(name: string): Promise<string> {
    const { operatorKey } = this.cluster.stack;
    const path = '/api/operator/organizations';
    const made = await this.must<{ id: string; managementKey: { apiKey: string } }>(operatorKey, 'POST', path, {
      name,
    });
    const manager = made.managementKey.apiKey;
    const credit = { organizationId: made.id, amount: '25.00', reason: 'limits' };
    for (const until = performance.now() + SEEN_BY_BILLING_MS; ; await sleep(100)) {
      const answer = await this.send(operatorKey, 'POST', '/api/operator/credits', credit, {
        'idempotency-key': made.id,
      });
      if (answer.status < 300) break;
      // Billing hears of it by an event.
      if (answer.status !== 404 || performance.now() > until) throw new Error(`credit: ${JSON.stringify(answer.body)}`);
    }
    await this.must(manager, 'PUT', '/api/projects/default/workloads/small', { model: MODEL });
    this.managementKeys.set(name, manager);
    return manager;
  }

  private send(secret: string, method: string, path: string, body: unknown, headers: Record<string, string> = {}) {
    return call<{ data: never }>(this.cluster.stack.baseUrl, secret, method, path, body, headers);
  }

  private async must<T>(secret: string, method: string, path: string, body: unknown): Promise<T> {
    const answer = await this.send(secret, method, path, body);
    if (answer.status < 300) return answer.body.data;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
}

const limitsOf = ({ rpm, tpm, concurrency }: Limits): Limits => ({ rpm, tpm, concurrency });
/** Without what is null: a key is made with what it has. */
const given = (limits: Limits): Partial<Limits> =>
  Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit !== null));

import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { writePrivate } from './secrets.ts';
import type { Stack } from './stack.ts';

const DEMO_CREDIT = '25.00';
const DEMO_RPM = 600;
const SEEN_BY_BILLING_MS = 60_000;

/** What a newcomer needs to use the stack; `.sluice/demo.json`, readable by its owner only. */
export interface Demo {
  readonly baseUrl: string;
  readonly operatorKey: string;
  readonly managementKey: string;
  readonly inferenceKey: string;
  /** A model to call; all of them are in `models`. */
  readonly model: string;
  readonly models: readonly string[];
  readonly organization: string;
  readonly organizationId: string;
  readonly backing: {
    readonly kind: string;
    readonly postgresUrls: { readonly auth: string; readonly billing: string; readonly metering: string };
    readonly natsUrl: string;
    /** Of the NATS user that `npm run dlq` is. */
    readonly operatorNatsUrl: string;
    readonly redisUrl: string;
  };
  readonly services: Readonly<Record<string, string>>;
  readonly workers: readonly { readonly id: string; readonly url: string; readonly log: string }[];
}

/**
 * An organization with credit, two workloads, a management key and an inference key, made through the public API. What an
 * earlier run made is used again if it still works.
 */
export async function ensureDemo(stack: Stack, file: string): Promise<Demo> {
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Demo) : undefined;
  const made = known && (await stillWorks(stack, known)) ? known : await make(stack);
  const { managementKey, inferenceKey, organization, organizationId } = made;
  const demo: Demo = {
    baseUrl: stack.baseUrl,
    operatorKey: stack.operatorKey,
    managementKey,
    inferenceKey,
    model: stack.models[0]!,
    models: stack.models,
    organization,
    organizationId,
    backing: {
      kind: stack.backing.kind,
      postgresUrls: stack.databases,
      natsUrl: stack.natsUrl('admin'),
      operatorNatsUrl: stack.natsUrl('operator'),
      redisUrl: stack.backing.redis.url,
    },
    services: stack.urls,
    workers: stack.workers.map(({ id, url, log }) => ({ id, url, log })),
  };
  writePrivate(file, `${JSON.stringify(demo, null, 2)}\n`);
  return demo;
}

async function stillWorks({ baseUrl }: Stack, { managementKey, inferenceKey }: Demo): Promise<boolean> {
  const answers = await Promise.all([
    call(baseUrl, managementKey, 'GET', '/api/projects'),
    call(baseUrl, inferenceKey, 'GET', '/v1/models'),
  ]);
  return answers.every(({ status }) => status === 200);
}

type Made = Pick<Demo, 'managementKey' | 'inferenceKey' | 'organization' | 'organizationId'>;

async function make({ baseUrl, operatorKey, models }: Stack): Promise<Made> {
  const organization = 'demo';
  const created = await must<{ id: string; managementKey: { apiKey: string } }>(
    baseUrl,
    operatorKey,
    'POST',
    '/api/operator/organizations',
    { name: organization },
  );
  const organizationId = created.id;
  const managementKey = created.managementKey.apiKey;
  await credit(baseUrl, operatorKey, organizationId);
  for (const [i, model] of models.entries()) {
    await must(baseUrl, managementKey, 'PUT', `/api/projects/default/workloads/${i === 0 ? 'large' : 'small'}`, {
      model,
    });
  }
  const key = await must<{ apiKey: string }>(baseUrl, managementKey, 'POST', '/api/keys/credit', {
    name: 'demo',
    rpm: DEMO_RPM,
  });
  return { managementKey, inferenceKey: key.apiKey, organization, organizationId };
}

/** Billing hears of the organization by an event: a moment later. */
async function credit(baseUrl: string, operatorKey: string, organizationId: string): Promise<void> {
  const body = { organizationId, amount: DEMO_CREDIT, reason: 'demo' };
  for (const until = performance.now() + SEEN_BY_BILLING_MS; ; await sleep(100)) {
    const answer = await call(baseUrl, operatorKey, 'POST', '/api/operator/credits', body, {
      'idempotency-key': `demo-${organizationId}`,
    });
    if (answer.status < 300) return;
    if (answer.status !== 404 || performance.now() > until)
      throw new Error(`crediting the demo organization: ${answer.status} ${answer.text}`);
  }
}

async function must<T>(baseUrl: string, key: string, method: string, path: string, body: unknown): Promise<T> {
  const { status, text } = await call(baseUrl, key, method, path, body);
  if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text}`);
  return (JSON.parse(text) as { data: T }).data;
}

async function call(
  baseUrl: string,
  key: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
) {
  const response = await fetch(baseUrl + path, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(10_000),
  });
  return { status: response.status, text: await response.text() };
}

// docker-compose.yml for real, wherever an engine and the images can be had. What needs no engine: deploy/docker/compose.spec.ts.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { costOf, formatUsd, parseUsd } from '@sluice/primitives/money';
import { freePorts } from '@sluice/testing';
import { parse } from 'yaml';
import { call, eventually } from '../stack.ts';

const ROOT = join(import.meta.dirname, '../..');
const FIRST_START_MS = 300_000;
const DOWN_MS = 180_000;
const ASK_MS = 60_000;
const PULL_MS = 300_000;
const execute = promisify(execFile);

const project = `sluice-test-${randomBytes(4).toString('hex')}`;
const env: NodeJS.ProcessEnv = { ...process.env, SLUICE_IMAGE: `${project}:image` };

const docker = async (milliseconds: number, ...args: string[]): Promise<string> =>
  (await execute('docker', args, { cwd: ROOT, env, timeout: milliseconds, maxBuffer: 64 * 1024 * 1024 })).stdout;
const compose = (milliseconds: number, ...args: string[]): Promise<string> =>
  docker(milliseconds, 'compose', '-p', project, ...args);

/** Why compose can't be started here; undefined where it can. */
async function whyNot(): Promise<string | undefined> {
  const version = await docker(ASK_MS, 'compose', 'version', '--short').catch(() => '');
  if (!/^v?([2-9]|\d\d)\./.test(version)) return 'docker compose v2 is not installed';
  const engine = await docker(ASK_MS, 'version', '--format', '{{.Server.Version}}').catch(() => undefined);
  if (engine === undefined) return 'no Docker engine answers';
  const { services } = parse(readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8'), {
    merge: true,
    maxAliasCount: -1,
  }) as {
    services: Record<string, { image: string; profiles?: string[] }>;
  };
  const servers = Object.values(services).filter(({ image, profiles }) => !image.includes('$') && !profiles);
  for (const image of [...servers.map((server) => server.image), NODE_IMAGE])
    if (!(await haveImage(image))) return `the image ${image} is not here and can't be pulled`;
  // The build installs packages: a container has to reach where they come from, as the host does.
  const npm = ['run', '--rm', NODE_IMAGE, 'npm', 'view', 'zod', 'version', '--fetch-retries=0'];
  const reached = await docker(30_000, ...npm).catch(() => undefined);
  return reached === undefined
    ? "no package registry can be reached from a container, so the image can't be built"
    : undefined;
}

const NODE_IMAGE = /^ARG NODE_IMAGE=(.*)$/m.exec(readFileSync(join(ROOT, 'deploy/docker/Dockerfile'), 'utf8'))![1]!;

async function haveImage(image: string): Promise<boolean> {
  const present = docker(ASK_MS, 'image', 'inspect', image);
  return present
    .catch(() => docker(PULL_MS, 'pull', '--quiet', image))
    .then(
      () => true,
      () => false,
    );
}

const reason = await whyNot();
if (reason !== undefined) console.warn(`docker compose is not tested here: ${reason}`);
const noPrometheus =
  reason ?? ((await haveImage('prom/prometheus:v2.53.3')) ? undefined : "the image of Prometheus can't be had");
/** A test that can't be run is not passed: it says so in its name, and counts as skipped. */
const possible = (why: string | undefined) => (why === undefined ? it : it.skip);
const titled = (why: string | undefined, title: string) =>
  why === undefined ? title : `NOT RUN HERE, ${why}: ${title}`;

let baseUrl: string;
let cleaner: ChildProcess | undefined;
let cleaned: Promise<unknown> | undefined;

/** Takes everything down when asked, and also when this process ends without asking. */
function startCleaner(): void {
  const script =
    'cat >/dev/null; docker compose -p "$1" --profile "*" down --volumes --remove-orphans --rmi local --timeout 5';
  const options = {
    cwd: ROOT,
    env,
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'] as ['pipe', 'ignore', 'ignore'],
  };
  cleaner = spawn('sh', ['-c', script, 'sh', project], options);
  cleaned = new Promise((resolve) => cleaner!.once('exit', resolve));
  cleaner.unref();
}

/** Starts what is not up and waits until all is healthy. What went wrong is in the containers' logs, so they are shown. */
async function up(...more: string[]): Promise<void> {
  try {
    await compose(FIRST_START_MS, ...more.slice(0, -1), 'up', '--wait', ...more.slice(-1));
  } catch (error) {
    const state = await compose(ASK_MS, 'ps', '--all').catch(String);
    const logs = await compose(ASK_MS, 'logs', '--no-color', '--tail', '30').catch(String);
    const said = (error as { stderr?: string }).stderr?.slice(-4_000) ?? '';
    throw new Error(`docker compose up failed:\n${said}\n${state}\n${logs}`, { cause: error });
  }
}
const operatorKey = async () => (await compose(30_000, 'run', '--rm', '-T', 'operator-key')).trim();

beforeAll(async () => {
  if (reason !== undefined) return;
  const [port] = await freePorts(1);
  env['SLUICE_PORT'] = String(port);
  baseUrl = `http://127.0.0.1:${port}`;
  startCleaner();
  await up();
}, FIRST_START_MS + 30_000);
afterAll(async () => {
  cleaner?.stdin?.end();
  await cleaned;
}, DOWN_MS);

interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number };
}
interface Answer<T> {
  data: T;
}
let managementKey: string;
const manage = <T>(method: string, path: string, body?: unknown) =>
  call<Answer<T>>(baseUrl, managementKey, method, path, body);

describe('docker compose', () => {
  possible(reason)(
    titled(reason, 'gives a newcomer with the operator credential a Sluice that answers, counts, charges and revokes'),
    async () => {
      expect((await call(baseUrl, undefined, 'GET', '/readyz')).status).toBe(200);
      const operator = await operatorKey();
      const organization = await call<Answer<{ id: string; managementKey: { apiKey: string } }>>(
        baseUrl,
        operator,
        'POST',
        '/api/operator/organizations',
        { name: 'compose' },
      );
      expect(organization.status).toBe(201);
      const organizationId = organization.body.data.id;
      managementKey = organization.body.data.managementKey.apiKey;
      // Billing hears of the organization by an event.
      const credit = { organizationId, amount: '10.00', reason: 'test' };
      await eventually(async () => {
        const { status } = await call(baseUrl, operator, 'POST', '/api/operator/credits', credit, {
          'idempotency-key': organizationId,
        });
        return status < 300;
      });
      const model = 'demo/small-7b';
      expect((await manage('PUT', '/api/projects/default/workloads/chat', { model })).status).toBeLessThan(300);
      const key = (await manage<{ id: string; apiKey: string }>('POST', '/api/keys/credit', { name: 'compose' })).body
        .data;

      const chat = () =>
        call<{ usage: Usage }>(baseUrl, key.apiKey, 'POST', '/v1/chat/completions', {
          model,
          messages: [{ role: 'user', content: 'Hello from a container.' }],
          max_tokens: 12,
        });
      const answer = await chat();
      expect(answer.status).toBe(200);
      const tokens = answer.body.usage;

      const [row] = await eventually(async () => {
        const { data } = (await manage<{ cost: string }[]>('GET', '/api/usage?groupBy=key,model')).body;
        return data.length > 0 && data;
      });
      expect(row).toMatchObject({
        keyName: 'compose',
        model,
        requestCount: 1,
        inputTokens: tokens.prompt_tokens,
        outputTokens: tokens.completion_tokens,
      });
      await eventually(async () => {
        const { balance } = (await manage<{ balance: string }>('GET', '/api/billing/status')).body.data;
        return balance === formatUsd(parseUsd('10.00') - parseUsd(row!.cost));
      });
      expect(row!.cost).toBe(formatUsd(costOf(countsOf(tokens), await pricesOf(operator, model))));

      // Auth reaches the gateway: a revoke is confirmed, not waited out.
      const deleted = await manage<{ inForce: unknown }>('DELETE', `/api/keys/${key.id}`);
      expect(deleted.body.data.inForce).toMatchObject({ confirmed: 1, of: 1 });
      expect((await chat()).status).toBe(401);
    },
    300_000,
  );

  possible(reason)(titled(reason, 'opens one port, on loopback'), async () => {
    const containers = await docker(
      ASK_MS,
      'ps',
      '--filter',
      `label=com.docker.compose.project=${project}`,
      '--format',
      '{{.Ports}}',
    );
    const open = containers.split('\n').filter((ports) => ports.includes('->'));
    expect(open).toEqual([`127.0.0.1:${new URL(baseUrl).port}->8080/tcp`]);
  });

  possible(noPrometheus)(
    titled(noPrometheus, 'lets Prometheus see every service and worker, and the dashboard what it asks Prometheus for'),
    async () => {
      await up('--profile', 'observability', 'prometheus');
      const ask = async <T>(path: string) => {
        const url = `http://127.0.0.1:9090/api/v1/${path}`;
        const said = await compose(
          ASK_MS,
          '--profile',
          'observability',
          'exec',
          '-T',
          'prometheus',
          'wget',
          '-qO-',
          url,
        );
        return (JSON.parse(said) as { data: T }).data;
      };
      const expected = ['auth', 'billing', 'gateway', 'metering', 'router', 'worker-1', 'worker-2'];
      const seen = () =>
        ask<{ result: { metric: { instance: string }; value: [number, string] }[] }>('query?query=up').then(
          ({ result }) =>
            result.filter(({ value }) => value[1] === '1').map(({ metric }) => metric.instance.replace(':8080', '')),
        );
      await eventually(async () => (await seen()).length === expected.length, 120_000);
      expect((await seen()).toSorted()).toEqual(expected);
      for (const expression of dashboardExpressions())
        expect({
          expression,
          series: (await ask<{ result: unknown[] }>(`query?query=${encodeURIComponent(expression)}`)).result.length,
        }).toEqual({ expression, series: 1 });
    },
    300_000,
  );

  possible(reason)(
    titled(reason, 'keeps data and secrets when the containers are thrown away'),
    async () => {
      const operator = await operatorKey();
      await compose(DOWN_MS, '--profile', '*', 'down');
      await up();
      expect(await operatorKey()).toBe(operator);
      const { status, body } = await manage<{ requestCount: number }[]>('GET', '/api/usage?groupBy=key,model');
      expect(status).toBe(200);
      expect(body.data.map(({ requestCount }) => requestCount)).toEqual([1]);
    },
    FIRST_START_MS,
  );
});

const countsOf = ({ prompt_tokens, completion_tokens, prompt_tokens_details }: Usage) => ({
  input: BigInt(prompt_tokens),
  cachedInput: BigInt(prompt_tokens_details?.cached_tokens ?? 0),
  output: BigInt(completion_tokens),
});

async function pricesOf(operator: string, model: string) {
  const { data } = (
    await call<Answer<{ model: string; prices: Record<'input' | 'cachedInput' | 'output', string> }[]>>(
      baseUrl,
      operator,
      'GET',
      '/api/operator/prices',
    )
  ).body;
  const { prices } = data.find((price) => price.model === model)!;
  return { input: BigInt(prices.input), cachedInput: BigInt(prices.cachedInput), output: BigInt(prices.output) };
}

function dashboardExpressions(): string[] {
  const { panels } = JSON.parse(
    readFileSync(join(ROOT, 'deploy/observability/grafana/dashboards/usage.json'), 'utf8'),
  ) as { panels: { targets: { expr?: string }[] }[] };
  return panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => (expr === undefined ? [] : [expr])));
}

// Grafana itself is not needed: what its PostgreSQL data source does to a query before it sends it is a few replacements.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SERVICES } from '@sluice/contracts/actor';
import { serviceKeys } from '@sluice/service-kit';
import { withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { parse } from 'yaml';
import { runOnce } from '../local/supervisor.ts';
import { databaseUrl, provisionDatabases } from '../provision.ts';

const ROOT = join(import.meta.dirname, '../..');
const PASSWORDS = { auth: 'a-word', billing: 'b-word', metering: 'm-word', grafana: 'g-word' };
const START_MS = 300_000;

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly datasource: { readonly uid: string };
  readonly targets: readonly { readonly format?: string; readonly rawSql?: string; readonly expr?: string }[];
}
interface Variable {
  readonly name: string;
  readonly query: string;
  readonly type: string;
  readonly allValue?: string;
}
interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
}
type Row = Readonly<Record<string, unknown>>;

const dashboard = JSON.parse(
  readFileSync(join(import.meta.dirname, 'grafana/dashboards/usage.json'), 'utf8'),
) as Dashboard;
const variables = dashboard.templating.list;
const sqlPanels = dashboard.panels.filter(({ datasource }) => datasource.uid === 'metering');

const FROM = '2026-03-01T10:02:30.000Z';
const TO = '2026-03-01T12:00:00.000Z';
/** Ids end differently: that is what tells two keys of one name apart. */
const CHAT_KEY = 'key-0000-aaaaaa';
const GONE_KEY = 'key-0000-bbbbbb';

/** time, organization, key, model, project, requests, failed, input, cached, output, pico-USD */
const FACTS = [
  ['2026-03-01T10:02:00Z', 'org-1', CHAT_KEY, 'demo/large', 'default', 2, 1, 100, 40, 10, 2_000_000_000_000],
  ['2026-03-01T10:02:00Z', 'org-1', CHAT_KEY, 'demo/large', 'other', 1, 0, 50, 0, 5, 500_000_000_000],
  ['2026-03-01T11:30:00Z', 'org-1', CHAT_KEY, 'demo/small', 'default', 4, 0, 30, 0, 3, 250_000],
  ['2026-03-01T11:30:00Z', 'org-2', GONE_KEY, 'demo/small', 'default', 8, 2, 700, 0, 70, 1_000_000_000_000],
  // A better record took all of it back.
  ['2026-03-01T11:31:00Z', 'org-2', GONE_KEY, 'demo/large', 'default', 0, 0, 0, 0, 0, 0],
  // Before and after the time shown, at every granularity.
  ['2026-02-28T10:02:00Z', 'org-1', CHAT_KEY, 'demo/large', 'default', 999, 0, 999, 0, 999, 999],
  ['2026-03-02T12:00:00Z', 'org-1', CHAT_KEY, 'demo/large', 'default', 999, 0, 999, 0, 999, 999],
] as const;

const at = (time: string) => new Date(time);
const EXPECTED: Readonly<Record<string, readonly Row[]>> = {
  Requests: [{ requests: 15 }],
  Failed: [{ failed: 3 }],
  'Input tokens': [{ input_tokens: 880 }],
  'Output tokens': [{ output_tokens: 88 }],
  Cost: [{ cost: 3.50000025 }],
  'Tokens by key': [
    { time: at('2026-03-01T10:02:00Z'), metric: 'chat · aaaaaa', tokens: 165 },
    { time: at('2026-03-01T11:30:00Z'), metric: 'chat · aaaaaa', tokens: 33 },
    { time: at('2026-03-01T11:30:00Z'), metric: 'unnamed · bbbbbb', tokens: 770 },
    { time: at('2026-03-01T11:31:00Z'), metric: 'unnamed · bbbbbb', tokens: 0 },
  ],
  'Tokens by model': [
    { time: at('2026-03-01T10:02:00Z'), metric: 'demo/large', tokens: 165 },
    { time: at('2026-03-01T11:30:00Z'), metric: 'demo/small', tokens: 803 },
    { time: at('2026-03-01T11:31:00Z'), metric: 'demo/large', tokens: 0 },
  ],
  'Requests by key': [
    { time: at('2026-03-01T10:02:00Z'), metric: 'chat · aaaaaa', requests: 3 },
    { time: at('2026-03-01T11:30:00Z'), metric: 'chat · aaaaaa', requests: 4 },
    { time: at('2026-03-01T11:30:00Z'), metric: 'unnamed · bbbbbb', requests: 8 },
    { time: at('2026-03-01T11:31:00Z'), metric: 'unnamed · bbbbbb', requests: 0 },
  ],
  'Cost by model': [
    { time: at('2026-03-01T10:02:00Z'), metric: 'demo/large', cost: 2.5 },
    { time: at('2026-03-01T11:30:00Z'), metric: 'demo/small', cost: 1.00000025 },
    { time: at('2026-03-01T11:31:00Z'), metric: 'demo/large', cost: 0 },
  ],
  'Tokens by key and model': [
    tableRow('org-2', 'unnamed', GONE_KEY, 'demo/small', [8, 2, 700, 0, 70, 770, 1]),
    tableRow('org-1', 'chat', CHAT_KEY, 'demo/large', [3, 1, 150, 40, 15, 165, 2.5]),
    tableRow('org-1', 'chat', CHAT_KEY, 'demo/small', [4, 0, 30, 0, 3, 33, 0.00000025]),
  ],
};

function tableRow(organization: string, key: string, keyId: string, model: string, counts: readonly number[]): Row {
  const names = ['Requests', 'Failed', 'Input tokens', 'of them cached', 'Output tokens', 'Tokens', 'Cost'];
  return {
    Organization: organization,
    Key: key,
    'Key id': keyId,
    Model: model,
    ...Object.fromEntries(names.map((name, i) => [name, counts[i]])),
  };
}

/** As Grafana sends it. What is not chosen is "All", which stands for the variable's own text, unquoted. */
function interpolate(sql: string, chosen: Readonly<Record<string, readonly string[]>>): string {
  const withVariables = sql.replaceAll(/\$\{(\w+)(?::(\w+))?\}/g, (whole, name: string, format?: string) => {
    const variable = variables.find((one) => one.name === name);
    const values = chosen[name];
    if (!variable) throw new Error(`${whole} is not a variable of the dashboard`);
    if (values === undefined) return variable.allValue!;
    return format === 'sqlstring' ? values.map((value) => `'${value.replaceAll("'", "''")}'`).join(',') : values[0]!;
  });
  return withVariables.replaceAll(/\$(\w+)\(([^)]*)\)/g, (whole, macro: string) => {
    if (macro === '__timeFrom') return `'${FROM}'`;
    if (macro === '__timeTo') return `'${TO}'`;
    throw new Error(`this test does not know ${whole}`);
  });
}

const backing = withBacking(['postgres'], { own: true });
const dir = mkdtempSync(join(tmpdir(), 'sluice-dashboards-'));
let grafana: Client;

beforeAll(async () => {
  const { url } = backing().postgres;
  await provisionDatabases(url, PASSWORDS);
  await migrateMetering(ownersUrl(url, 'metering'));
  await insertFacts(ownersUrl(url, 'metering'));
  grafana = new Client({ connectionString: ownersUrl(url, 'grafana') });
  await grafana.connect();
}, START_MS);
afterAll(async () => {
  await grafana?.end();
  rmSync(dir, { recursive: true, force: true });
});

function ownersUrl(adminUrl: string, role: 'metering' | 'grafana'): string {
  const url = new URL(databaseUrl(adminUrl, 'metering'));
  url.username = role;
  url.password = PASSWORDS[role];
  return url.href;
}

/** By the service itself, as in every other place. */
async function migrateMetering(url: string): Promise<void> {
  const { privateKeys, publicKeys } = await serviceKeys(...SERVICES);
  await runOnce({
    name: 'migrate-metering',
    script: join(ROOT, 'apps/metering/dist/main.js'),
    args: ['--migrate'],
    log: join(dir, 'migrate.log'),
    env: {
      PORT: '0',
      DATABASE_URL: url,
      NATS_URL: 'nats://127.0.0.1:1',
      SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.metering),
      SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    },
  });
}

async function insertFacts(url: string): Promise<void> {
  const metering = new Client({ connectionString: url });
  await metering.connect();
  try {
    await metering.query(`insert into key_names (key_id, organization_id, name) values ($1, 'org-1', 'chat')`, [
      CHAT_KEY,
    ]);
    for (const granularity of ['minute', 'hour', 'day'])
      for (const [time, organization, key, model, project, requests, failed, ...sums] of FACTS)
        for (const [outcome, ...counts] of [
          ['ok', requests - failed, ...sums],
          ...(failed > 0 ? [['error', failed, 0, 0, 0, 0]] : []),
        ])
          await metering.query(
            `insert into usage_by_${granularity} as u (organization_id, bucket, key_id, model, project, workload,
               outcome, request_count, input_tokens, cached_input_tokens, output_tokens, cost_pico)
             values ($2, date_trunc('${granularity}', $1::timestamptz, 'UTC'), $3, $4, $5, 'chat', $6, $7, $8, $9, $10, $11)`,
            [time, organization, key, model, project, outcome, ...counts],
          );
  } finally {
    await metering.end();
  }
}

const rowsOf = async (panel: Panel, chosen: Readonly<Record<string, readonly string[]>>): Promise<Row[]> =>
  (await grafana.query<Record<string, unknown>>(interpolate(panel.targets[0]!.rawSql!, chosen))).rows;

describe('the usage dashboard', () => {
  it('asks only data sources that are provisioned, metering by the role that can only read', () => {
    const file = join(import.meta.dirname, 'grafana/provisioning/datasources/sluice.yml');
    const { datasources } = parse(readFileSync(file, 'utf8')) as { datasources: { uid: string; user?: string }[] };
    const named = new Set(dashboard.panels.map(({ datasource }) => datasource.uid));
    expect([...named].toSorted()).toEqual(datasources.map(({ uid }) => uid).toSorted());
    expect(datasources.find(({ uid }) => uid === 'metering')).toMatchObject({ user: 'grafana' });
  });

  it('has an expectation here for every panel that asks metering', () => {
    expect(sqlPanels.map(({ title }) => title)).toEqual(Object.keys(EXPECTED));
    expect(sqlPanels.map(({ targets }) => targets.length)).toEqual(sqlPanels.map(() => 1));
  });

  it.each(sqlPanels.map((panel) => [panel.title, panel] as const))(
    '%s: shows exactly what metering has, as the role grafana',
    async (title, panel) => {
      expect(await rowsOf(panel, { granularity: ['minute'] })).toEqual(EXPECTED[title]);
    },
  );

  it.each(['hour', 'day'])('by the %s, the numbers are the same in fewer rows', async (granularity) => {
    for (const { title } of sqlPanels.filter(({ type }) => type !== 'timeseries')) {
      const panel = sqlPanels.find((one) => one.title === title)!;
      expect({ title, rows: await rowsOf(panel, { granularity: [granularity] }) }).toEqual({
        title,
        rows: EXPECTED[title],
      });
    }
    const tokens = await rowsOf(
      sqlPanels.find(({ title }) => title === 'Tokens by model')!,
      { granularity: [granularity] },
    );
    const perHour = [
      { time: at('2026-03-01T10:00:00Z'), metric: 'demo/large', tokens: 165 },
      { time: at('2026-03-01T11:00:00Z'), metric: 'demo/large', tokens: 0 },
      { time: at('2026-03-01T11:00:00Z'), metric: 'demo/small', tokens: 803 },
    ];
    const perDay = [
      { time: at('2026-03-01T00:00:00Z'), metric: 'demo/large', tokens: 165 },
      { time: at('2026-03-01T00:00:00Z'), metric: 'demo/small', tokens: 803 },
    ];
    expect(tokens).toEqual(granularity === 'hour' ? perHour : perDay);
  });

  it('shows only what is chosen of organizations, keys and models', async () => {
    const table = sqlPanels.at(-1)!;
    const models = async (chosen: Readonly<Record<string, readonly string[]>>) =>
      (await rowsOf(table, { granularity: ['minute'], ...chosen })).map((row) => [row['Organization'], row['Model']]);
    expect(await models({ organization: ['org-2'] })).toEqual([['org-2', 'demo/small']]);
    expect(await models({ key: [CHAT_KEY], model: ['demo/small'] })).toEqual([['org-1', 'demo/small']]);
    expect(await models({ model: ["none of 'these'", 'demo/large'] })).toEqual([['org-1', 'demo/large']]);
  });

  it('offers the organizations, keys and models that were used', async () => {
    const offered = async (name: string, chosen: Readonly<Record<string, readonly string[]>> = {}) => {
      const { query } = variables.find((one) => one.name === name && one.type === 'query')!;
      const { rows } = await grafana.query<Record<string, unknown>>(interpolate(query, chosen));
      return rows.map((row) => row['__text'] ?? Object.values(row)[0]);
    };
    expect(await offered('organization')).toEqual(['org-1', 'org-2']);
    expect(await offered('key')).toEqual(['chat · aaaaaa', 'unnamed · bbbbbb']);
    expect(await offered('model', { organization: ['org-1'] })).toEqual(['demo/large', 'demo/small']);
  });

  it("cannot change metering's tables, nor reach another database", async () => {
    await expect(grafana.query('delete from usage_by_day')).rejects.toThrow(/read-only|permission denied/);
    await grafana.query('set default_transaction_read_only = off');
    await expect(grafana.query('delete from usage_by_day')).rejects.toThrow(/permission denied/);
    const elsewhere = new Client({
      connectionString: databaseUrl(ownersUrl(backing().postgres.url, 'grafana'), 'billing'),
    });
    await expect(elsewhere.connect()).rejects.toThrow(/permission denied/);
  });
});

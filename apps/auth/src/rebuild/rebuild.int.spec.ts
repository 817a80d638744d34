import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ServiceClient } from '@sluice/service-kit';
import { systemClock } from '@sluice/primitives/clock';
import { withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { KeysService } from '../keys/keys.service.js';
import { authApp, manager, operator } from '../sessions/auth-app.fixture.js';
import { READ_MODELS, REPLAYED } from './read-models.js';
import { compareRebuilt, stateAt } from './rebuild.store.js';

const backing = withBacking(['postgres']);
let app: Awaited<ReturnType<typeof authApp>>;
let keys: KeysService;
let organizationId: string;
beforeAll(async () => {
  app = await authApp((await backing.database('rebuild')).url);
  const billing = { ask: async () => ({ available: '1' }) } as unknown as ServiceClient;
  keys = new KeysService(app.orm.em, app.relay, app.inForce, billing, systemClock);
  organizationId = await app.organization();
});
afterAll(() => app?.close());

const options = () => ({ em: app.orm.em, replayed: REPLAYED, models: READ_MODELS });
const live = async (table: string) => {
  const { rows } = await sql<{ row: unknown }>`
    select to_jsonb(t) - 'digest' - 'invitation_digest' as row from ${sql.table(table)} t order by 1
  `.execute(app.orm.em.fork().getKysely());
  return rows.map(({ row }) => row);
};

/** Something of everything that happens to keys, organizations, members and sessions. */
async function liveALife(): Promise<void> {
  const by = manager(organizationId);
  await app.organizations.createProject(by, organizationId, 'other');
  await app.organizations.ensureWorkload(by, organizationId, { project: 'default', name: 'chat', model: 'm' });
  await app.organizations.ensureWorkload(by, organizationId, { project: 'other', name: 'chat', model: 'm' });
  await app.organizations.removeWorkload(by, organizationId, 'other', 'chat');
  await app.organizations.changeSettings(by, organizationId, { immutableKeyNames: true }, { rpm: 600, tpm: 9 });
  await app.organizations.changeSettings(by, organizationId, { usageSpikeFactor: 2.5 }, { tpm: null });
  await app.organizations.changeProject(by, organizationId, 'other', { concurrency: 5 });
  const issued = await Promise.all(
    Array.from({ length: 12 }, (_, i) => keys.issueCredit(by, organizationId, { name: `key-${i}` })),
  );
  const [one, two, three, four] = issued.map(({ key }) => key) as [never, never, never, never];
  await keys.update(by, one, { description: 'd', rpm: 7, isActive: false });
  await keys.update(by, one, { isActive: true });
  await keys.rotate(by, two, { graceSeconds: 60 });
  await keys.rotate(by, two, { graceSeconds: 0 });
  await keys.revoke(by, three, 'deleted');
  await keys.revoke(by, four, 'leaked');
  const owner = await app.joined(operator, organizationId, 'owner@example.com', 'owner');
  const viewer = await app.joined(operator, organizationId, 'viewer@example.com', 'viewer');
  await app.call('POST', '/api/auth/logout', { as: await app.as(viewer.token) });
  await app.call('PUT', `/api/members/${viewer.member.id}`, {
    as: await app.as(owner.token),
    body: { role: 'member' },
  });
}

describe('the read models of auth', () => {
  it('are what their events say: rebuilt from nothing they equal the live ones, and nothing stays behind', async () => {
    await liveALife();
    await app.organizations.suspend(operator, organizationId, 'unpaid');
    const { events, tables } = await compareRebuilt(options());
    expect(events).toBeGreaterThan(30);
    expect(tables.map(({ table, missing, extra }) => ({ table, missing, extra }))).toEqual(
      READ_MODELS.map(({ table }) => ({ table, missing: [], extra: [] })),
    );
    expect(await live('organizations')).toMatchObject([{ limits: { rpm: 600, tpm: null, concurrency: null } }]);
    for (const { table, rows } of tables) expect([table, rows]).toEqual([table, (await live(table)).length]);
    expect(tables.every(({ rows }) => rows > 0)).toBe(true);
    const { rows } = await sql`select 1 from pg_namespace where nspname = 'rebuilt'`.execute(app.orm.em.getKysely());
    expect(rows).toEqual([]);
  });

  it('show how they were at a past moment', async () => {
    const then = new Date();
    const before = Object.fromEntries(
      await Promise.all(READ_MODELS.map(async ({ table }) => [table, await live(table)] as const)),
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
    await app.organizations.resume(operator, organizationId);
    await keys.issueCredit(manager(organizationId), organizationId, { name: 'later' });
    expect(await stateAt(options(), then)).toEqual(before);
    expect(await stateAt(options(), new Date())).not.toEqual(before);
    expect(JSON.stringify(await stateAt(options(), then))).not.toMatch(/digest/);
  });

  it.each(READ_MODELS.map(({ table }) => table))('a row of %s that was changed or removed is found', async (table) => {
    const db = app.orm.em.fork().getKysely<never>();
    const column = {
      api_keys: 'name',
      key_secrets: 'key_id',
      organizations: 'name',
      projects: 'project',
      workloads: 'model',
      members: 'role',
      sessions: 'method',
    }[table]!;
    const keep = sql.table(`kept_${table}`);
    await sql`create table ${keep} as table ${sql.table(table)}`.execute(db);
    const restore = async () => {
      await sql`delete from ${sql.table(table)}`.execute(db);
      await sql`insert into ${sql.table(table)} select * from ${keep}`.execute(db);
    };
    const found = async () => {
      const report = (await compareRebuilt(options())).tables.find((one) => one.table === table)!;
      await restore();
      return [report.missing.length, report.extra.length];
    };
    const first = sql`ctid = (select ctid from ${sql.table(table)} limit 1)`;
    await sql`update ${sql.table(table)} set ${sql.ref(column)} = 'altered' where ${first}`.execute(db);
    expect(await found()).toEqual([1, 1]);
    await sql`delete from ${sql.table(table)} where ${first}`.execute(db);
    expect(await found()).toEqual([0, 1]);
    expect(
      (await compareRebuilt(options())).tables.every(({ missing, extra }) => missing.length + extra.length === 0),
    ).toBe(true);
  });
});

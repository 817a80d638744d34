import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { organizationSettingsChangedV1 } from '@sluice/contracts/auth';
import { migrate } from '@sluice/event-store';
import { until, withBacking } from '@sluice/testing';
import { actorOf, keysApp } from '../keys/keys-app.fixture.js';
import { authDatabase } from '../database.js';

const backing = withBacking(['postgres']);
let url: string;
let app: Awaited<ReturnType<typeof keysApp>>;
let organizationId: string;
beforeAll(async () => {
  ({ url } = await backing.database('settings'));
  app = await keysApp(url);
});
afterAll(() => app?.close());
beforeEach(async () => {
  organizationId = await app.organization();
});

interface Answer {
  readonly data: { readonly usageSpikeFactor?: number | null };
  readonly error?: { readonly code: string; readonly param?: string };
}
const call = (method: 'GET' | 'PUT', body?: unknown) =>
  app.call<Answer>(method, '/api/settings', { as: actorOf(organizationId), ...(body === undefined ? {} : { body }) });
const set = async (usageSpikeFactor: unknown) => call('PUT', { usageSpikeFactor });
const shown = async () => (await call('GET')).body.data.usageSpikeFactor;

describe('the factor above which usage is a spike', () => {
  it('is 5 at first, is set and switched off, and stays as it is where another setting changes', async () => {
    expect(await shown()).toBe(5);
    expect((await set(2.5)).body.data.usageSpikeFactor).toBe(2.5);
    expect((await set(null)).status).toBe(200);
    expect((await call('PUT', { immutableKeyNames: true })).status).toBe(200);
    expect(await shown()).toBe(null);
  });

  it.each([[1.4], [1_001], ['5'], [{}]])('is refused by name where it is %p', async (factor) => {
    const { status, body } = await set(factor);
    expect([status, body.error]).toEqual([
      400,
      expect.objectContaining({ code: 'invalid_request', param: 'usageSpikeFactor' }),
    ]);
    expect(await shown()).toBe(5);
  });

  it('is told with each change, with a version by which the newest is known, and not where nothing changed', async () => {
    for (const factor of [2.5, 2.5, null]) await set(factor);
    const told = () =>
      app.published.filter(
        ({ subject }) => subject === `evt.auth.organization.settings_changed.v1.${organizationId}.${organizationId}`,
      );
    await until(() => told().length >= 2);
    const events = told().map(({ payload }) => organizationSettingsChangedV1.parse(JSON.parse(payload)).data);
    expect(events.map(({ settings }) => settings)).toEqual([{ usageSpikeFactor: 2.5 }, { usageSpikeFactor: null }]);
    expect(events[1]!.version).toBeGreaterThan(events[0]!.version);
  });

  it('of an organization that was there before it is that of a new one', async () => {
    await set(null);
    const other = await app.organization();
    const run = (sql: string) => app.orm.em.fork().getConnection().execute(sql);
    await run(`update organizations set settings = settings - 'usageSpikeFactor' where organization_id = '${other}'`);
    await run(`delete from mikro_orm_migrations where name = 'auth-009-usage-spike-factor'`);
    expect(await migrate(authDatabase(url))).toEqual(['auth-009-usage-spike-factor']);
    expect(await shown()).toBe(null);
    organizationId = other;
    expect(await shown()).toBe(5);
  });
});

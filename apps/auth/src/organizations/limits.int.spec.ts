import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { MadeUpGateways, PATIENT } from '../gateways/gateways.fixture.js';
import { actorOf, keysApp } from '../keys/keys-app.fixture.js';
import { LookupsController } from '../keys/lookups.controller.js';

const backing = withBacking(['postgres']);
let app: Awaited<ReturnType<typeof keysApp>>;
let gateways: MadeUpGateways;
let boot: string;
let organizationId: string;
beforeAll(async () => {
  app = await keysApp((await backing.database('limits')).url);
});
afterAll(() => app?.close());
beforeEach(async () => {
  gateways = new MadeUpGateways();
  boot = await gateways.start(app.orm.em);
  organizationId = await app.organization();
});
afterEach(async () => {
  Object.assign(app.inForce.times, PATIENT);
  await app.orm.em.fork().getConnection().execute('delete from gateways');
  gateways.stop();
});

interface Answer {
  readonly data: {
    readonly apiKey: string;
    readonly limits: object;
    readonly inForce?: object | 'pending';
    readonly immutableKeyNames?: boolean;
  };
  readonly error?: { readonly code: string; readonly param?: string };
}
const call = (method: 'GET' | 'POST' | 'PUT', path: string, body?: unknown, as = actorOf(organizationId)) =>
  app.call<Answer>(method, path, { as, ...(body === undefined ? {} : { body }) });
const put = (path: string, limits: object, as?: ReturnType<typeof actorOf>) => call('PUT', path, { limits }, as);
const listed = async () => {
  const { body } = await app.call<{ data: object[] }>('GET', '/api/projects', { as: actorOf(organizationId) });
  return body.data;
};
const CONFIRMED = { confirmed: 1, of: 1, ms: expect.any(Number) };
const NONE = { rpm: null, tpm: null, concurrency: null };

describe.each([
  ['the organization', '/api/settings'],
  ['a project', '/api/projects/default'],
])('limits of %s', (_whose, path) => {
  const shown = async () =>
    path === '/api/settings' ? (await call('GET', path)).body.data.limits : (await listed())[0];

  it('are none at first; each is set, kept and taken away on its own, in force at every gateway', async () => {
    const partly = (limits: object) =>
      path === '/api/settings' ? limits : expect.objectContaining({ slug: 'default', limits });
    expect(await shown()).toEqual(partly(NONE));
    const steps = [
      [{ rpm: 600 }, { ...NONE, rpm: 600 }],
      [
        { tpm: 1_000_000, concurrency: 5 },
        { rpm: 600, tpm: 1_000_000, concurrency: 5 },
      ],
      [{ rpm: null }, { rpm: null, tpm: 1_000_000, concurrency: 5 }],
    ] as const;
    let before = 1;
    for (const [change, now] of steps) {
      gateways.heard.length = 0;
      const { status, body } = await put(path, change);
      expect([status, body.data]).toEqual([200, expect.objectContaining({ limits: now, inForce: CONFIRMED })]);
      expect(await shown()).toEqual(partly(now));
      // Requests in flight are let to their end.
      expect(gateways.heard).toEqual([{ id: organizationId, version: expect.any(Number), inflight: 'drain' }]);
      // A gateway takes one that is not higher for news of before.
      const { version } = gateways.heard[0]!;
      expect(version).toBeGreaterThan(before);
      before = version;
    }
  });

  it('are announced in the transaction that changes them, so that a process may die behind it', async () => {
    await put(path, { rpm: 5 });
    const sql = `select event_id, version from events where stream_id = ? and type like '%LimitsChanged'`;
    const connection = app.orm.em.fork().getConnection();
    const stream = [`organization-${organizationId}`];
    const [event] = await connection.execute<{ event_id: string; version: number }[]>(sql, stream);
    const announced = app.published.filter(({ subject }) => subject === `keyfeed.key.${organizationId}`);
    expect(announced).toEqual([expect.objectContaining({ id: `${event!.event_id}:keyfeed:${organizationId}` })]);
    expect(JSON.parse(announced[0]!.payload)).toMatchObject({ version: event!.version });
  });

  it('that are set as they are run the whole procedure again, at the version that they are of', async () => {
    await put(path, { rpm: 5 });
    const { version } = gateways.heard.at(-1)!;
    await call('PUT', '/api/projects/default/workloads/later', { model: 'm' });
    const again = await put(path, { rpm: 5 });
    expect(again.body.data.inForce).toEqual(CONFIRMED);
    expect(gateways.heard.at(-1)).toEqual({ id: organizationId, version, inflight: 'drain' });
  });

  it.each([
    [{ rpm: 0 }, 'limits.rpm'],
    [{ rpm: 10_000_001 }, 'limits.rpm'],
    [{ rpm: 1.5 }, 'limits.rpm'],
    [{ rpm: '60' }, 'limits.rpm'],
    [{ tpm: 1_000_000_001 }, 'limits.tpm'],
    [{ concurrency: 10_001 }, 'limits.concurrency'],
    [{ concurrency: -1 }, 'limits.concurrency'],
    [{ priority: 1 }, 'priority'],
  ])('%j are refused by the bounds of a key, and change nothing', async (limits, param) => {
    const { status, body } = await put(path, { tpm: 7, ...limits });
    expect([status, body.error]).toMatchObject([400, { code: 'invalid_request', param }]);
    expect(gateways.heard).toEqual([]);
  });

  it('at the upper bounds are taken', async () => {
    const most = { rpm: 10_000_000, tpm: 1_000_000_000, concurrency: 10_000 };
    expect((await put(path, most)).body.data.limits).toEqual(most);
  });

  it('are in force when the evidence of a gateway that does not answer has run out', async () => {
    await gateways.start(app.orm.em, { pushed: () => undefined });
    app.inForce.times.evidenceMs = 2_500;
    const { status, body } = await put(path, { rpm: 5 });
    expect([status, body.data.inForce]).toEqual([200, { confirmed: 1, of: 2, ms: expect.any(Number) }]);
    expect((body.data.inForce as { ms: number }).ms).toBeGreaterThanOrEqual(2_500);
  });

  it('are "pending" when neither that gateway nor the broker answers; the settings tell that, and its end', async () => {
    await gateways.start(app.orm.em, { pushed: () => undefined });
    app.broker.away = true;
    Object.assign(app.inForce.times, { evidenceMs: 2_500, answerMs: 500 });
    const { status, body } = await put(path, { rpm: 5 });
    app.broker.away = false;
    app.inForce.times.answerMs = PATIENT.answerMs;
    expect([status, body.data.inForce]).toEqual([202, 'pending']);
    const told = async () => (await call('GET', '/api/settings')).body.data.inForce;
    expect(await told()).toBe('pending');
    expect((await put(path, { rpm: 5 })).status).toBe(200);
    expect(await told()).toMatchObject({ confirmed: 1, of: 2 });
  });

  it('stand in what the gateway is told of a key from then on', async () => {
    const { body } = await call('POST', '/api/keys/credit', { name: 'k' });
    const digest = createHash('sha256').update(body.data.apiKey).digest('base64url');
    const lookup = async () => (await new LookupsController(app.orm).find({ boot, digest })).credential;
    expect(await lookup()).toMatchObject({ organizationLimits: null, projectLimits: null });
    await put(path, { rpm: 5 });
    const limits = { ...NONE, rpm: 5 };
    const [organizationLimits, projectLimits] = path === '/api/settings' ? [limits, null] : [null, limits];
    const { organizationVersion, ...known } = await lookup();
    expect(known).toMatchObject({ organizationLimits, projectLimits });
    // Otherwise the gateway would take it for older than what voided it.
    expect(organizationVersion).toBe(gateways.heard.at(-1)!.version);
  });
});

describe('limits', () => {
  it('of the organization are not for a key of one project, and change beside other settings', async () => {
    const bound = actorOf(organizationId, { project: 'default' });
    const refused = await put('/api/settings', { rpm: 5 }, bound);
    expect([refused.status, refused.body.error?.code]).toEqual([403, 'project_scope_mismatch']);
    const both = await call('PUT', '/api/settings', { immutableKeyNames: true, limits: { rpm: 5 } });
    expect(both.body.data).toEqual({
      immutableKeyNames: true,
      usageSpikeFactor: 5,
      limits: { ...NONE, rpm: 5 },
      inForce: CONFIRMED,
    });
    const other = await call('PUT', '/api/settings', { immutableKeyNames: false });
    // Nothing that gateways go by: nobody is asked.
    expect(other.body.data).toEqual({ immutableKeyNames: false, usageSpikeFactor: 5, limits: { ...NONE, rpm: 5 } });
    expect(gateways.heard).toHaveLength(1);
    const same = await call('PUT', '/api/settings', { immutableKeyNames: true, limits: { rpm: 5 } });
    // A setting that is new does not stand for the limits beside it: those are announced again.
    expect(same.body.data.inForce).toEqual(CONFIRMED);
    const announced = app.published.filter(({ subject }) => subject === `keyfeed.key.${organizationId}`);
    expect(announced).toHaveLength(2);
  });

  it('of a project are set by a key of the whole organization, and by none of one project or of another organization', async () => {
    await call('POST', '/api/projects', { slug: 'other' });
    const by = (project: string | null, organization = organizationId) => actorOf(organization, { project });
    expect((await put('/api/projects/other', { rpm: 5 }, by(null))).status).toBe(200);
    for (const project of ['other', 'default']) {
      const refused = await put('/api/projects/other', { rpm: 6 }, by(project));
      expect([refused.status, refused.body.error?.code]).toEqual([403, 'project_scope_mismatch']);
    }
    const foreign = await put('/api/projects/other', { rpm: 7 }, by(null, await app.organization()));
    expect([foreign.status, foreign.body.error?.code]).toEqual([404, 'not_found']);
    const nowhere = await put('/api/projects/nowhere', { rpm: 7 });
    expect([nowhere.status, nowhere.body.error?.code]).toEqual([404, 'not_found']);
    expect(await listed()).toMatchObject([
      { slug: 'default', limits: NONE },
      { slug: 'other', limits: { ...NONE, rpm: 5 } },
    ]);
  });

  it.each([{}, { limits: {}, name: 'x' }, { limits: null }, []])('%j is no change of a project', async (body) => {
    const { status, body: answer } = await call('PUT', '/api/projects/default', body);
    expect([status, answer.error?.code]).toEqual([400, 'invalid_request']);
  });

  it('are in the audit by themselves', async () => {
    await put('/api/settings', { rpm: 5 });
    await put('/api/projects/default', { tpm: 6 });
    const entries = await app.orm.em
      .fork()
      .getConnection()
      .execute<{ entry: string }[]>(
        `select entry from audit_entries where organization_id = ? and action like '%limits_changed' order by seq`,
        [organizationId],
      );
    expect(entries.map(({ entry }) => JSON.parse(entry) as unknown)).toMatchObject([
      {
        action: 'organization.limits_changed',
        target: `organization:${organizationId}`,
        changes: { limits: { rpm: 5 } },
      },
      { action: 'project.limits_changed', target: 'project:default', changes: { limits: { tpm: 6 } } },
    ]);
  });
});

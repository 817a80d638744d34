import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Refusal, RefusedRequest } from '@sluice/contracts/refusals';
import { systemId } from '@sluice/primitives/id';
import { manualClock, withBacking } from '@sluice/testing';
import { auditApp } from '../audit/audit-app.fixture.js';
import { auditDatabase, someone } from '../audit/audit-database.fixture.js';
import { KEPT_MS, KEPT_PER_ORGANIZATION, RefusalsStore } from './refusals.store.js';

const backing = withBacking(['postgres']);
const NOW = Date.parse('2026-03-01T12:00:00.000Z');
const clock = manualClock(new Date(NOW).toISOString());
let database: Awaited<ReturnType<typeof auditDatabase>>;
let app: Awaited<ReturnType<typeof auditApp>>;
beforeAll(async () => {
  database = await auditDatabase((await backing.database('refusals')).url);
  app = await auditApp(database.orm.em, clock);
});
afterAll(async () => {
  await app?.close();
  await database?.orm.close(true);
});

const refusal = (over: Partial<Refusal> = {}): Refusal => ({
  requestId: systemId(),
  organizationId: 'o1',
  project: null,
  keyId: 'k1',
  code: 'rate_limit_exceeded',
  status: 429,
  message: 'The rate limit of this key is reached.',
  operation: 'POST /v1/chat/completions',
  model: 'm',
  at: new Date(NOW).toISOString(),
  ...over,
});
const tell = (refusals: readonly unknown[]) => app.call('POST', '/internal/refusals', { body: { refusals } });
const explain = (requestId: string, organizationId = 'o1', project: string | null = null) =>
  app.call<RefusedRequest>('GET', `/internal/refusals/${requestId}`, { as: someone(organizationId, { project }) });
const countOf = async (organizationId: string) => {
  const [row] = await database.orm.em
    .fork()
    .execute<{ count: string }[]>('select count(*) from refusals where organization_id = ?', [organizationId]);
  return Number(row!.count);
};

describe('GET /internal/refusals/:requestId', () => {
  it('200: what was refused, why, and what to do about it', async () => {
    const told = refusal();
    expect((await tell([told])).status).toBe(204);
    const { status, body } = await explain(told.requestId);
    const { organizationId: _o, project: _p, ...shown } = told;
    expect(status).toBe(200);
    expect(body).toEqual({ ...shown, remedy: 'Wait as long as retry-after says.' });
  });

  it('404 for another organization, for a key of another project, for an id that nobody knows', async () => {
    const told = refusal({ project: 'p1' });
    await tell([told]);
    const statuses = await Promise.all([
      explain(told.requestId),
      explain(told.requestId, 'o1', 'p1'),
      explain(told.requestId, 'o2'),
      explain(told.requestId, 'o1', 'p2'),
      explain(systemId()),
    ]);
    expect(statuses.map(({ status }) => status)).toEqual([200, 200, 404, 404, 404]);
  });

  it('404 for a key of one project where the refused key was of the whole organization', async () => {
    const told = refusal({ project: null });
    await tell([told]);
    expect((await explain(told.requestId, 'o1', 'p1')).status).toBe(404);
  });

  it('403 for an operator and for other services, 401 without an actor', async () => {
    const path = `/internal/refusals/${systemId()}`;
    const operator = someone(null, { kind: 'operator' });
    expect((await app.call('GET', path, { as: operator })).status).toBe(403);
    expect((await app.call('GET', path, { by: 'billing' })).status).toBe(403);
    expect((await app.call('GET', path)).status).toBe(401);
  });
});

describe('refusals are kept', () => {
  it('once: a request id that is told again, by whomever, changes nothing of the first', async () => {
    const told = refusal();
    await tell([told]);
    await tell([told, { ...told, organizationId: 'o2', message: 'mine now' }]);
    expect((await explain(told.requestId)).body).toMatchObject({ message: told.message });
    expect((await explain(told.requestId, 'o2')).status).toBe(404);
  });

  it('the newest 10,000 of an organization, whatever another one has', async () => {
    const other = refusal({ organizationId: 'o-small', at: '2026-03-01T00:00:00.000Z' });
    const oldest = refusal({ organizationId: 'o-big', at: '2026-03-01T11:00:00.000Z' });
    await tell([other, oldest]);
    const store = new RefusalsStore(database.orm.em, clock);
    for (let batch = 0; batch < 11; batch++)
      await store.add(Array.from({ length: 1_000 }, () => refusal({ organizationId: 'o-big' })));
    expect(await countOf('o-big')).toBe(KEPT_PER_ORGANIZATION);
    expect((await explain(oldest.requestId, 'o-big')).status).toBe(404);
    expect((await explain(other.requestId, 'o-small')).status).toBe(200);
  });

  it('for 24 h, then swept', async () => {
    const old = refusal({ organizationId: 'o-old', at: new Date(NOW - KEPT_MS - 1).toISOString() });
    const young = refusal({ organizationId: 'o-old', at: new Date(NOW - KEPT_MS + 1_000).toISOString() });
    await tell([old, young]);
    expect((await explain(old.requestId, 'o-old')).status).toBe(404);
    await new RefusalsStore(database.orm.em, clock).sweep();
    expect(await countOf('o-old')).toBe(1);
    expect((await explain(young.requestId, 'o-old')).status).toBe(200);
  });

  it('400: within limits only, from gateways only', async () => {
    const bad: [Partial<Refusal>, string][] = [
      [{ requestId: 'mine' }, 'refusals.0.requestId'],
      [{ message: 'x'.repeat(501) }, 'refusals.0.message'],
      [{ model: 'x'.repeat(257) }, 'refusals.0.model'],
      [{ status: 200 }, 'refusals.0.status'],
      [{ at: 'now' }, 'refusals.0.at'],
    ];
    for (const [over, param] of bad) {
      const { status, body } = await tell([refusal(over)]);
      expect([status, body.error.param]).toEqual([400, param]);
    }
    expect((await tell([])).status).toBe(400);
    expect((await tell(Array.from({ length: 1_001 }, () => refusal()))).status).toBe(400);
    expect(
      (await app.call('POST', '/internal/refusals', { by: 'billing', body: { refusals: [refusal()] } })).status,
    ).toBe(403);
  });
});

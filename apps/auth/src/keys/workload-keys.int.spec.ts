import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { withBacking } from '@sluice/testing';
import { actorOf, keysApp, type Asked } from './keys-app.fixture.js';

const backing = withBacking(['postgres']);
let app: Awaited<ReturnType<typeof keysApp>>;
let organization: string;
let actor: Actor;
beforeAll(async () => {
  app = await keysApp((await backing.database('keys')).url);
});
beforeEach(async () => {
  organization = await app.organization();
  actor = actorOf(organization);
});
afterAll(() => app?.close());

interface Answered {
  readonly data: { readonly id: string; readonly [field: string]: unknown };
  readonly error: { readonly code: string };
}
const call = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, asked: Partial<Asked> = {}) =>
  app.call<Answered>(method, path, { as: actor, ...asked });
const newKey = async (body: object = {}, as = actor) =>
  (await call('POST', '/api/keys/credit', { as, body: { name: 'n', ...body } })).body.data;
const read = async (id: string) => (await call('GET', `/api/keys/${id}`)).body.data;
const refusal = ({ status, body }: { status: number; body: Answered }) => [status, body.error.code];
const IN_FORCE = { confirmed: 0, of: 0, ms: expect.any(Number) };

describe('keys of a workload', () => {
  const workload = (body: object, as = actor) => call('PUT', '/api/projects/default/workloads/chat', { as, body });
  const keysOf = async (as = actor) =>
    (await app.call<{ data: object[] }>('GET', '/api/projects/default/workloads/chat/keys', { as })).body.data;

  it('are exactly those that are named, in force; whoever has the whole project keeps it', async () => {
    const [all, one, two] = [
      await newKey(),
      await newKey({ access: [] }),
      await newKey({ access: ['default/chat', 'a/b'] }),
    ];
    const put = await workload({ model: 'm', keyIds: [one.id] });
    expect([put.status, put.body.data]).toEqual([
      200,
      expect.objectContaining({ name: 'chat', keyIds: [one.id], inForce: IN_FORCE }),
    ]);
    expect((await read(one.id))['access']).toEqual(['default/chat']);
    expect((await read(two.id))['access']).toEqual(['a/b']);
    expect(await keysOf()).toEqual([
      expect.objectContaining({ id: all.id, via: 'default/*' }),
      expect.objectContaining({ id: one.id, via: 'default/chat', isActive: true }),
    ]);
    const again = await workload({ model: 'm', keyIds: [one.id] });
    expect([again.status, again.body.data]).toEqual([200, expect.not.objectContaining({ inForce: IN_FORCE })]);
    await workload({ model: 'm' });
    expect((await read(one.id))['access']).toEqual(['default/chat']);
    await workload({ model: 'm', keyIds: [] });
    expect((await read(one.id))['access']).toEqual([]);
  });

  it('of another project are not seen, and left alone, by who is bound to one', async () => {
    await app.organizations.createProject(actor, organization, 'team-a');
    const theirs = await newKey({ project: 'team-a', access: ['default/chat'] });
    const mine = await newKey({ access: ['default/chat'] });
    const as = actorOf(organization, { project: 'default' });
    await workload({ model: 'm' });
    expect(await keysOf(as)).toEqual([expect.objectContaining({ id: mine.id })]);
    await workload({ model: 'm', keyIds: [] }, as);
    expect(await keysOf()).toEqual([expect.objectContaining({ id: theirs.id })]);
    expect(refusal(await workload({ model: 'm', keyIds: [theirs.id] }, as))).toEqual([404, 'not_found']);
  });

  it('404 for a key that is not there, and the workload is not made; 400 for no id', async () => {
    const stranger = await newKey({}, actorOf(await app.organization()));
    expect(refusal(await workload({ model: 'm', keyIds: [stranger.id] }))).toEqual([404, 'not_found']);
    expect((await call('GET', '/api/projects/default/workloads/chat')).status).toBe(404);
    expect((await call('GET', '/api/projects/default/workloads/chat/keys')).status).toBe(404);
    expect((await workload({ model: 'm', keyIds: ['x'] })).status).toBe(400);
  });

  it('are listed with the workloads of a project, which has to be there and the own one', async () => {
    await workload({ model: 'm' });
    const list = await call('GET', '/api/projects/default/workloads');
    expect([list.status, list.body.data]).toEqual([
      200,
      [{ project: 'default', name: 'chat', model: 'm', endpoint: '/w/default/chat/v1' }],
    ]);
    expect((await call('GET', '/api/projects/nowhere/workloads')).status).toBe(404);
    const as = actorOf(organization, { project: 'team-a' });
    expect(refusal(await call('GET', '/api/projects/default/workloads', { as }))).toEqual([
      403,
      'project_scope_mismatch',
    ]);
  });
});

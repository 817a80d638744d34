import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { withBacking } from '@sluice/testing';
import { actorOf, keysApp } from './keys-app.fixture.js';

const backing = withBacking(['postgres']);

let app: Awaited<ReturnType<typeof keysApp>>;
let owner: Actor;
beforeAll(async () => {
  app = await keysApp((await backing.database('key-lookups')).url);
  app.funds.available = '1';
  owner = actorOf(await app.organization());
});
afterAll(() => app?.close());

interface Made {
  readonly data: { readonly id: string };
}
const make = async (path: string) =>
  (await app.call<Made>('POST', path, { as: owner, body: { name: 'n' } })).body.data.id;
const find = async (id: string, as = owner) => {
  const { status, body } = await app.call<{ keyId?: string }>('GET', `/internal/keys/${id}`, { as });
  return [status, body.keyId];
};

it('tells of an inference key to whoever may see it, and to nobody else', async () => {
  const id = await make('/api/keys/credit');
  expect(await find(id)).toEqual([200, id]);
  expect(await find(id, { ...owner, project: 'default' })).toEqual([200, id]);
  expect(await find(id, { ...owner, project: 'other' })).toEqual([404, undefined]);
  expect(await find(id, actorOf(await app.organization()))).toEqual([404, undefined]);
});

it('tells of a deleted key: what it used is still asked for', async () => {
  const id = await make('/api/keys/credit');
  await app.call('DELETE', `/api/keys/${id}`, { as: owner });
  expect(await find(id)).toEqual([200, id]);
});

it('tells of no management key, nor of what can be no id', async () => {
  expect(await find(await make('/api/keys/management'))).toEqual([404, undefined]);
  for (const junk of ['x', '..', '%00', '01890000-0000-7000-8000-000000000000'])
    expect(await find(junk)).toEqual([404, undefined]);
});

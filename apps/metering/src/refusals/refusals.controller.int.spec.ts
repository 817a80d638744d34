import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { RefusalRow } from '@sluice/contracts/metering';
import { withBacking } from '@sluice/testing';
import { aManager, startMeteringApp, type MeteringApp } from '../metering-app.fixture.js';
import { refusalRows } from './refusals.js';
import { RefusalsStore } from './refusals.store.js';

const backing = withBacking(['postgres']);
const WINDOW = 'from=2026-03-01&to=2026-03-02';

let metering: MeteringApp;
beforeAll(async () => {
  metering = await startMeteringApp((await backing.database('metering-refusals-http')).url);
  const counts = ['sim/small', ''].map((model) => ({
    minute: '2026-03-01T10:00:00.000Z',
    organizationId: 'org-1',
    project: 'red',
    keyId: 'key-1',
    model,
    code: 'queue_full',
    count: 1,
  }));
  await metering.app.get(RefusalsStore).keep(refusalRows([{ boot: 'a', counts }]));
}, 300_000);
afterAll(() => metering?.close());

interface Answer {
  readonly data: RefusalRow[];
  readonly nextCursor: string | null;
  readonly error: { readonly code: string; readonly param: string };
}
const ask = async (query: string) => {
  const response = await metering.ask(`/api/usage/refusals?${query}`, aManager('org-1'));
  return { status: response.status, ...((await response.json()) as Answer) };
};

describe('GET /api/usage/refusals', () => {
  it('tells what was refused, what named no model as such', async () => {
    const { status, data } = await ask(`${WINDOW}&groupBy=model`);
    expect([status, data.map(({ model }) => model)]).toEqual([200, ['', 'sim/small']]);
    expect((await ask(`${WINDOW}&model=`)).data).toEqual([{ bucket: '2026-03-01T10:00:00.000Z', refusalCount: 1 }]);
  });

  it.each([
    ['project', 'project=a%00b'],
    ['keyId', 'keyId=%00'],
    ['model', 'model=sim%00'],
    ['code', 'code=%00queue_full'],
    ['from', 'from=0000-01-01'],
    ['from', 'from=1969-12-31'],
    ['to', 'from=9999-12-31&to=9999-12-31T23:59:59-10:00'],
    ['to', 'to=12026-03-01'],
    ['groupBy', 'groupBy=key,workload'],
    ['cursor', 'cursor=junk'],
  ])('refuses by name, in %s, what no database can be asked for: %s', async (param, query) => {
    expect(await ask(query)).toMatchObject({ status: 400, error: { code: 'invalid_request', param } });
  });

  it.each([
    ['a year that no database knows', { bucket: 300_000_000_000_000 }],
    ['a text that none can hold', { values: ['sim\0'] }],
  ])('refuses a cursor that somebody wrote into: %s', async (_what, change) => {
    const query = `${WINDOW}&groupBy=model`;
    const { nextCursor } = await ask(`${query}&limit=1`);
    const forged = { ...(JSON.parse(Buffer.from(nextCursor!, 'base64url').toString()) as object), ...change };
    const cursor = Buffer.from(JSON.stringify(forged)).toString('base64url');
    expect(await ask(`${query}&cursor=${nextCursor}`)).toMatchObject({ status: 200, data: [{ model: 'sim/small' }] });
    expect(await ask(`${query}&cursor=${cursor}`)).toMatchObject({ status: 400, error: { param: 'cursor' } });
  });
});

import { writeFile } from 'node:fs/promises';
import { describe, expect, it } from '@jest/globals';
import { priceSetV1, type Price } from '@sluice/contracts/billing';
import { systemId } from '@sluice/primitives/id';
import { billingSuite, manager, operator, PRICES, until } from '../billing-suite.fixture.js';
import { PriceFileService } from './price-file.service.js';

const billing = billingSuite();
const { call, prices, priceFile, published } = billing;

describe('prices', () => {
  const set = (body: Record<string, unknown>, as = operator) =>
    call<Price>('POST', '/api/operator/prices', { as, body });

  it('are those of the file from the start, and reading it again makes no new version', async () => {
    const before = await prices();
    expect(before).toEqual([expect.objectContaining({ model: 'sim/small', prices: PRICES })]);
    const files = billing.app().get(PriceFileService);
    await Promise.all([files.load(priceFile()), files.load(priceFile())]);
    expect(await prices()).toEqual(before);
  });

  it('refuse a file that is not a price list, naming what is wrong', async () => {
    const path = `${priceFile()}.bad`;
    await writeFile(path, JSON.stringify({ prices: [{ model: 'm', prices: { ...PRICES, input: 0.15 } }] }));
    await expect(billing.app().get(PriceFileService).load(path)).rejects.toThrow(/prices\[0\]\.prices\.input/);
  });

  it('are set as new versions, announced once, and the same price again is the same version', async () => {
    const body = { model: systemId(), prices: PRICES };
    const answers = await Promise.all(Array.from({ length: 5 }, () => set(body)));
    const { version } = answers[0]!.body.data;
    expect(answers.map((answer) => answer.body.data.version)).toEqual(Array(5).fill(version));
    const other = (await set({ ...body, prices: { ...PRICES, output: '1' } })).body.data;
    expect(other.version).not.toBe(version);
    expect((await prices()).filter(({ model }) => model === body.model)).toEqual([other]);
    const events = () =>
      published
        .map(({ data }) => priceSetV1.safeParse(JSON.parse(new TextDecoder().decode(data))))
        .flatMap((parsed) =>
          parsed.success && parsed.data.data.model === body.model ? [parsed.data.data.version] : [],
        );
    await until('both events', () => events().length >= 2);
    expect(new Set(events())).toEqual(new Set([version, other.version]));
  });

  it('say what a second of audio costs where it costs something, to the pico-dollar a millisecond', async () => {
    const model = systemId();
    const spoken = (await set({ model, prices: { ...PRICES, audioSecond: '100000000' } })).body.data;
    expect(spoken.prices).toEqual({ ...PRICES, audioSecond: '100000000' });
    const free = (await set({ model, prices: { ...PRICES, audioSecond: '0' } })).body.data;
    expect([free.prices, free.version === spoken.version]).toEqual([PRICES, false]);
    const answer = await set({ model, prices: { ...PRICES, audioSecond: '1500' } });
    expect(answer).toMatchObject({ status: 400, body: { error: { param: 'prices.audioSecond' } } });
  });

  it('that begin later are shown beside the one in force', async () => {
    const model = systemId();
    const now = (await set({ model, prices: PRICES })).body.data;
    const effectiveFrom = new Date(Date.now() + 3_600_000).toISOString();
    const later = (await set({ model, prices: { ...PRICES, input: '1' }, effectiveFrom })).body.data;
    expect((await prices()).filter((price) => price.model === model)).toEqual([now, later]);
  });

  it('are listed to operators, newest first, page by page', async () => {
    const page = (query: string) => call<Price[]>('GET', `/api/operator/prices?${query}`, { as: operator });
    const all = (await page('')).body;
    expect(all.nextCursor).toBeNull();
    const first = (await page('limit=1')).body;
    const rest = (await page(`cursor=${first.nextCursor}`)).body;
    expect([...first.data, ...rest.data]).toEqual(all.data);
  });

  it('are never changed, whoever tries', async () => {
    for (const statement of ['update prices set input = 1', 'delete from prices', 'truncate prices cascade']) {
      await expect(billing.rows(statement)).rejects.toThrow(/immutable/);
    }
  });

  it.each([
    ['effectiveFrom', { effectiveFrom: '2020-01-01T00:00:00Z' }, 400],
    ['prices.input', { prices: { ...PRICES, input: '0.15' } }, 400],
    ['model', { model: '' }, 400],
  ])('name the bad %s', async (param, change, code) => {
    const answer = await set({ model: systemId(), prices: PRICES, ...change });
    expect(answer).toMatchObject({ status: code, body: { error: { param } } });
  });

  it('are set by operators only', async () => {
    expect((await set({ model: 'm', prices: PRICES }, manager('org-1'))).status).toBe(403);
    expect((await call('GET', '/api/operator/prices', { as: manager('org-1') })).status).toBe(403);
  });
});

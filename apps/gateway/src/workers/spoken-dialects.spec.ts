import { expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import type { ServiceClient } from '@sluice/service-kit';
import { SpokenDialects } from './spoken-dialects.service.js';

const dialectsOf = (ask: () => Promise<unknown>) => new SpokenDialects({ ask } as unknown as ServiceClient);

it('what is spoken is what the router says of the model, asked for once for all of them', async () => {
  let asked = 0;
  const models = [
    { id: 'a', dialects: ['openai', 'messages'] },
    { id: 'b', dialects: ['openai'] },
  ];
  const dialects = dialectsOf(async () => {
    asked++;
    return { models };
  });
  const spoken = await Promise.all(['a', 'b', 'c'].map((model) => dialects.areSpoken('messages', model)));
  expect([spoken, asked]).toEqual([[true, false, false], 1]);
});

it('a router that does not answer has workers that speak nothing but OpenAI’s, until it does', async () => {
  let away = true;
  const dialects = dialectsOf(async () => {
    if (away) throw new Rejected('unavailable');
    return { models: [{ id: 'a', dialects: ['messages'] }] };
  });
  expect(await dialects.areSpoken('messages', 'a')).toBe(false);
  away = false;
  expect(await dialects.areSpoken('messages', 'a')).toBe(true);
});

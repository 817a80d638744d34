import { once } from 'node:events';
import { Agent, request } from 'undici';
import { describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { anOpenedRequest } from '@sluice/contracts/usage-record.fixture';
import { until } from '@sluice/testing';
import { fakeWorker, PATH, routerWith, settled, token, type Router } from '../proxy/inference.fixture.js';

const chunk = (output: number) =>
  `data: {"choices":[{"delta":{"content":"\\"usage\\":{}"}}],"usage":{"prompt_tokens":7,"completion_tokens":${output}}}\n\n`;
const sse = { 'content-type': 'text/event-stream' };
const opened = (requestId: string) => ({ 'x-sluice-opened': JSON.stringify(anOpenedRequest({ requestId })) });

/** A gateway of its own connections, which all go when it dies. */
function aGateway(router: Router) {
  const agent = new Agent();
  return {
    die: () => agent.destroy(),
    send: async (requestId: string, headers: Record<string, string> = opened(requestId)) =>
      request(router.url + PATH, {
        method: 'POST',
        dispatcher: agent,
        body: '{}',
        headers: { authorization: await token(), 'x-request-id': requestId, 'x-sluice-model': 'm', ...headers },
      }),
  };
}

const recordsOf = ({ told }: Router): UsageRecord[] => told.flatMap(({ records }) => records);
const whenTold = (router: Router, count: number) => until(() => recordsOf(router).length >= count);

describe('a gateway that vanishes', () => {
  it('leaves a record of what its request had taken, to the last piece that came, and the worker is stopped', async () => {
    const stopped = Promise.withResolvers<void>();
    // Cut off in the middle: the count before it is the last that is known.
    const pieces = [chunk(1), chunk(2), chunk(3).slice(0, -20)];
    const worker = await fakeWorker((_, response) => {
      response.writeHead(200, sse);
      for (const piece of pieces) response.write(piece);
      response.once('close', () => stopped.resolve());
    });
    const router = await routerWith([worker]);
    const gateway = aGateway(router);
    const { body } = await gateway.send('r-1');
    let text = '';
    body.on('error', () => {});
    body.on('data', (data: Buffer) => (text += data.toString()));
    await until(() => text === pieces.join(''));
    await gateway.die();
    await stopped.promise;
    await whenTold(router, 1);
    expect(router.told[0]).toMatchObject({ boot: 'router-1', from: 0, to: 0 });
    expect(recordsOf(router)).toEqual([
      expect.objectContaining({
        ...anOpenedRequest({ requestId: 'r-1' }),
        outcome: 'aborted',
        rank: 3,
        estimated: false,
        inputTokens: '7',
        outputTokens: '2',
        worker: 'w1',
        attempt: 1,
      }),
    ]);
  });

  it('leaves a record also of a whole answer that it had, but for its END', async () => {
    const answer = '{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3},"id":1}';
    const worker = await fakeWorker((_, response) => void response.end(answer));
    const router = await routerWith([worker]);
    const gateway = aGateway(router);
    await (await gateway.send('r-1')).body.dump();
    await settled(router);
    await gateway.die();
    await whenTold(router, 1);
    expect(recordsOf(router)).toEqual([expect.objectContaining({ rank: 3, inputTokens: '7', outputTokens: '3' })]);
  });

  it('leaves word of a request that a worker was still busy with, below all that a gateway says in rank', async () => {
    const arrived = Promise.withResolvers<void>();
    const worker = await fakeWorker(() => arrived.resolve());
    const router = await routerWith([worker]);
    const gateway = aGateway(router);
    gateway.send('r-1').catch(() => {});
    await arrived.promise;
    await gateway.die();
    await whenTold(router, 1);
    expect(recordsOf(router)).toEqual([expect.objectContaining({ rank: 0, inputTokens: '0', outputTokens: '0' })]);
  });

  it('leaves nothing of what is not metered, reached no worker, or is no request that a gateway opened', async () => {
    const worker = await fakeWorker((_, response) => {
      response.writeHead(200, sse);
      response.write(chunk(1));
    });
    const router = await routerWith([worker], { waitMs: 60_000 });
    const gateway = aGateway(router);
    for (const headers of [{}, { 'x-sluice-opened': '{}' }, { 'x-sluice-opened': 'no JSON' }] as Record<
      string,
      string
    >[]) {
      const { body } = await gateway.send('r-1', headers);
      body.on('error', () => {});
      await once(body, 'readable');
    }
    gateway.send('r-2', { ...opened('r-2'), 'x-sluice-model': 'nobody' }).catch(() => {});
    const { body } = await gateway.send('r-3');
    body.on('error', () => {});
    await once(body, 'readable');
    await gateway.die();
    await settled(router);
    await whenTold(router, 1);
    expect(recordsOf(router).map(({ requestId }) => requestId)).toEqual(['r-3']);
  });
});

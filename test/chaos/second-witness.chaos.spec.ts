import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { until } from '@sluice/testing';
import { createKeys } from '../load/replay/management.ts';
import { readAccounts, type Metered } from '../prove/usage/accounts.ts';
import { send } from '../prove/usage/client.ts';
import { Cluster } from '../prove/usage/cluster.ts';
import { longOrderOf } from '../prove/usage/mix.ts';
import { randomFrom } from '../prove/runner/random.ts';
import { STACK_START_MS } from '../stack.ts';

const PIECES = 5;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
}, STACK_START_MS);
afterAll(() => cluster?.stop(), 60_000);

describe('a gateway that is killed in the middle of a stream', () => {
  it.each([
    ['and its journals with it: the router tells of it', true],
    ['and its successor replays what the router tells too', false],
  ])(
    'is metered and charged once, as far as its client had it, %s',
    async (_how, withoutJournals) => {
      const { stack, gateways } = cluster;
      const [gateway] = gateways;
      const name = withoutJournals ? 'lost' : 'kept';
      const [key] = await createKeys(stack.demo, name, 1);
      const killed = Promise.withResolvers<void>();
      const order = longOrderOf(withoutJournals ? 1 : 2, 1, stack.models, randomFrom(1));
      const sending = send(gateway!, order, key!, (pieces) => {
        if (pieces < PIECES) return;
        gateway!.process.kill('SIGKILL');
        if (withoutJournals)
          for (const boot of readdirSync(gateway!.journals))
            rmSync(join(gateway!.journals, boot), { recursive: true, force: true });
        killed.resolve();
      });
      await killed.promise;
      const { requestId, pieces } = await sending;
      // Its successor is through with what there was, and both books have what the router saw, which may be the later.
      await until(async () => {
        const { metered, ledger } = await readAccounts(cluster, [key!.id]).catch(() => NOTHING_YET);
        const outputs = [metered, ledger].map((book) => Number(book.get(requestId!)?.output ?? -1));
        return cluster.unfinishedJournals() === 0 && outputs.every((output) => output >= pieces);
      });
      const { metered, ledger, lines, sums } = await readAccounts(cluster, [key!.id]);
      const record = metered.get(requestId!)!;
      const line = lines.find(({ requestId: id }) => id === `${requestId}.1`)!;
      expect(Number(record.output)).toBeLessThanOrEqual(line.completionTokens);
      expect(record.input).toBe(BigInt(line.promptTokens));
      expect(ledger.get(requestId!)).toMatchObject({ input: record.input, output: record.output, pico: record.pico });
      expect(sums['minutes']).toEqual(sums['records']);
      expect(sums['records']).toMatchObject({ requests: '1', output: String(record.output) });
    },
    240_000,
  );
});

const NOTHING_YET = { metered: new Map<string, Metered>(), ledger: new Map<string, Metered>() };

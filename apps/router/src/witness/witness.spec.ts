import { describe, expect, it } from '@jest/globals';
import { usageBatchSchema, type UsageBatch } from '@sluice/contracts/gateway';
import { anOpenedRequest } from '@sluice/contracts/usage-record.fixture';
import { systemClock } from '@sluice/primitives/clock';
import { witnessed } from '../router.metrics.js';
import { Recent, UNSETTLED_MS } from './recent.js';
import { Sighting } from './sighting.js';
import { Witness } from './witness.service.js';

const sighting = (requestId: string): Sighting => {
  const one = new Sighting(JSON.stringify(anOpenedRequest({ requestId })), true);
  one.dispatched('w1', 1);
  return one;
};

describe('the witness', () => {
  it('loses nothing while NATS is away, and repeats a batch under the same name with the same content', async () => {
    const sent = new Map<string, Set<string>>();
    const stored: UsageBatch[] = [];
    let refusals = 3;
    const publish = async (_subject: string, payload: string, id: string) => {
      sent.set(id, (sent.get(id) ?? new Set()).add(payload));
      if (refusals-- > 0) throw new Error('no PubAck');
      stored.push(usageBatchSchema.parse(JSON.parse(payload)));
    };
    const witness = new Witness('router-1', publish, systemClock);
    witness.onModuleInit();
    // So many that they take several messages.
    const ids = Array.from({ length: 1_000 }, (_, i) => `r${i}`);
    for (const id of ids) witness.cut(sighting(id));
    await witness.close();
    expect(stored.flatMap(({ records }) => records.map(({ requestId }) => requestId))).toEqual(ids);
    expect(stored.flatMap(({ records }) => records.map(({ seq }) => seq))).toEqual(ids.map((_, i) => i));
    expect(stored.length).toBeGreaterThan(1);
    for (const payloads of sent.values()) expect(payloads.size).toBe(1);
  });

  it('keeps so much and no more while NATS is away, and counts what it drops', async () => {
    const before = (await witnessed.get()).values.find(({ labels }) => labels['result'] === 'dropped')?.value ?? 0;
    const witness = new Witness('router-1', () => Promise.reject(new Error('away')), systemClock);
    const one = sighting('r');
    for (let i = 0; i < 100_000; i++) witness.cut(one);
    const after = (await witnessed.get()).values.find(({ labels }) => labels['result'] === 'dropped')?.value ?? 0;
    expect(after - before).toBeGreaterThan(10_000);
    expect(after - before).toBeLessThan(90_000);
  });
});

describe('what was passed on a moment ago', () => {
  it('is told of a connection that closes, once, and only while its END may not be written', () => {
    const recent = new Recent();
    const [one, other] = [{}, {}];
    const [old, fresh, foreign] = [sighting('old'), sighting('fresh'), sighting('foreign')];
    recent.passed(one, old, 0);
    recent.passed(one, fresh, UNSETTLED_MS - 1);
    recent.passed(other, foreign, UNSETTLED_MS - 1);
    expect(recent.takeOf(one, UNSETTLED_MS)).toEqual([fresh]);
    expect(recent.takeOf(one, UNSETTLED_MS)).toEqual([]);
    expect(recent.takeOf(other, UNSETTLED_MS)).toEqual([foreign]);
  });

  it('keeps of large answers only the end, in which the count stands', () => {
    const one = sighting('r');
    one.piece(Buffer.from(`${'x'.repeat(60_000)},"usage":{"prompt_tokens":7,"completion_tokens":3}}`));
    one.shrink();
    expect(one.record(0, '2026-11-20T10:00:00.000Z')).toMatchObject({ rank: 3, inputTokens: '7', outputTokens: '3' });
  });
});

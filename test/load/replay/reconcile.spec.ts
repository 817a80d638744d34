import { describe, expect, it } from '@jest/globals';
import { reconcile, totals, type Facts, type Figures, type Sent } from './reconcile.ts';
import { report, summary } from './report.ts';

const figures = (input: number, output: number, pico = input + 3 * output): Figures => ({
  input: BigInt(input),
  output: BigInt(output),
  pico: BigInt(pico),
});

const sentOf = (index: number, more: Partial<Sent> = {}): Sent => ({
  row: { index, at: 0, contextTokens: 100 + index, generatedTokens: 10 },
  keyId: `k${index % 2}`,
  keyName: `key ${index % 2}`,
  model: 'm',
  requestId: `r${index}`,
  attempt: 1,
  answer: { usage: { input: 100 + index, cached: 0, output: 10 }, textTokens: 10 },
  failure: undefined,
  ...more,
});
const lost = (index: number, failure = 'stream cut', requestId: string | undefined = `r${index}`): Sent =>
  sentOf(index, { answer: undefined, failure, requestId });

/** All four accounts as they should be. */
function factsOf(sent: readonly Sent[], change: (facts: MutableFacts) => void = () => {}): Facts {
  const facts: MutableFacts = { trace: new Map(), workers: [], metering: new Map(), ledger: new Map() };
  for (const { row, requestId, attempt, answer } of sent) {
    const right = figures(row.contextTokens, row.generatedTokens);
    facts.trace.set(row.index, right);
    if (answer === undefined || requestId === undefined) continue;
    facts.workers.push({ requestId: `${requestId}.${attempt}`, figures: right });
    facts.metering.set(requestId, right);
    facts.ledger.set(requestId, right);
  }
  change(facts);
  return facts;
}
interface MutableFacts {
  trace: Map<number, Figures>;
  workers: { requestId: string; figures: Figures }[];
  metering: Map<string, Figures>;
  ledger: Map<string, Figures>;
}

describe('the reconciliation', () => {
  it('finds no difference where there is none, and sums by key and model', () => {
    const sent = [0, 1, 2, 3].map((index) => sentOf(index));
    const result = reconcile(sent, factsOf(sent));
    expect(result).toMatchObject({ ok: true, answered: 4, mismatches: [] });
    expect(result.groups.map(({ key, requests }) => [key, requests])).toEqual([
      ['key 0', 2],
      ['key 1', 2],
    ]);
    expect(totals(result.groups).sums.ledger).toEqual(figures(406, 40, 526));
  });

  it.each(['metering', 'ledger'] as const)('sees what %s misses', (source) => {
    const sent = [sentOf(0), sentOf(1)];
    const result = reconcile(
      sent,
      factsOf(sent, (facts) => facts[source].delete('r1')),
    );
    expect(result.ok).toBe(false);
    expect(result.mismatches[0]).toEqual({ requestId: 'r1', row: 1, what: `not in ${source}` });
    expect(totals(result.groups).difference).toEqual(figures(101, 10));
  });

  it('does not let a too much and a too little make up for each other', () => {
    const sent = [sentOf(0), sentOf(2)];
    const result = reconcile(
      sent,
      factsOf(sent, ({ ledger }) => ledger.set('r0', figures(101, 10)).set('r2', figures(101, 10))),
    );
    expect(result.ok).toBe(false);
    expect(totals(result.groups).difference.input).toBe(2n);
  });

  it('sees one pico-USD', () => {
    const sent = [sentOf(0)];
    const result = reconcile(
      sent,
      factsOf(sent, ({ ledger }) => ledger.set('r0', figures(100, 10, 131))),
    );
    expect([result.ok, totals(result.groups).difference.pico]).toEqual([false, 1n]);
  });

  it('sees an answer that says other than it has, or nothing', () => {
    const usage = { input: 100, cached: 0, output: 10 };
    for (const [answer, what] of [
      [{ usage, textTokens: 9 }, 'the text of the answer has 9 tokens'],
      [{ usage: { ...usage, output: 11 }, textTokens: 10 }, 'the answer says 100 in, 11 out'],
      [{ usage: undefined, textTokens: 10 }, 'the answer says no usage'],
    ] as const) {
      const sent = [sentOf(0, { answer })];
      expect(reconcile(sent, factsOf(sent)).mismatches).toEqual([{ requestId: 'r0', row: 0, what }]);
    }
  });

  it('counts the delivered attempt of a request that was tried again, and lists the other', () => {
    const sent = [sentOf(0, { attempt: 2 })];
    const facts = factsOf(sent, ({ workers }) => workers.push({ requestId: 'r0.1', figures: figures(100, 4) }));
    const result = reconcile(sent, facts);
    expect(result.ok).toBe(true);
    expect(result.undelivered).toEqual({ attempts: 1, figures: figures(100, 4) });
  });

  it('sees a request that a worker ran twice under one attempt, or one id that was answered twice', () => {
    const sent = [sentOf(0)];
    const twice = factsOf(sent, ({ workers }) => workers.push(workers[0]!));
    expect(reconcile(sent, twice).ok).toBe(false);
    const same = [sentOf(0), sentOf(0)];
    expect(reconcile(same, factsOf(same)).mismatches.map(({ what }) => what)).toContain(
      'this request id answered twice',
    );
  });

  it('lets unanswered requests be metered or not, in a line of their own', () => {
    const sent = [sentOf(0), lost(1), lost(2, 'no answer: ECONNREFUSED', undefined), lost(3)];
    const result = reconcile(
      sent,
      factsOf(sent, ({ metering, ledger, workers }) => {
        metering.set('r1', figures(101, 4)).set('unseen', figures(102, 1));
        ledger.set('r1', figures(101, 4));
        workers.push({ requestId: 'r1.1', figures: figures(101, 5) }, { requestId: 'other.1', figures: figures(9, 9) });
      }),
    );
    expect(result.ok).toBe(true);
    expect(result.unanswered).toMatchObject({
      count: 3,
      metered: 2,
      withTokens: 2,
      charged: 1,
      figures: figures(203, 5),
    });
    expect([...result.unanswered.reasons]).toEqual([
      ['stream cut', 2],
      ['no answer: ECONNREFUSED', 1],
    ]);
    expect(result.undelivered.attempts).toBe(1);
    const text = report(result);
    expect(text).toContain(
      'unanswered: 3 (2 × stream cut, 1 × no answer: ECONNREFUSED); nevertheless metered: 2, with tokens: 2, charged: 1',
    );
  });

  it('sees more records than requests', () => {
    const sent = [sentOf(0), lost(1)];
    const result = reconcile(
      sent,
      factsOf(sent, ({ metering }) => metering.set('a', figures(1, 1)).set('b', figures(1, 1))),
    );
    expect(result.mismatches.map(({ what }) => what)).toEqual(['metering has 1 requests too many']);
  });
});

describe('the report', () => {
  it('has a table per measure with the four accounts side by side, and says how it came out', () => {
    const sent = [sentOf(0), sentOf(1)];
    const good = report(reconcile(sent, factsOf(sent)));
    expect(good.split('\n').slice(0, 6)).toEqual([
      'key    tokens in  requests  trace  workers  metering  ledger  difference',
      '-----  ---------  --------  -----  -------  --------  ------  ----------',
      'key 0  m                 1    100      100       100     100           0',
      'key 1  m                 1    101      101       101     101           0',
      '-----  ---------  --------  -----  -------  --------  ------  ----------',
      'all                      2    201      201       201     201           0',
    ]);
    expect(good).toContain('differences: 0');
    const bad = report(
      reconcile(
        sent,
        factsOf(sent, ({ ledger }) => ledger.clear()),
      ),
    );
    expect(bad).toContain('row 0 r0: not in ledger');
  });

  it('is one object for machines, with money as text', () => {
    const sent = [sentOf(0)];
    expect(summary(reconcile(sent, factsOf(sent)))).toMatchObject({
      ok: true,
      requests: 1,
      usd: { trace: '0.00000000013', ledger: '0.00000000013' },
      differences: { requests: 0, tokensIn: 0, tokensOut: 0, usd: '0.00' },
    });
  });
});

import type { SeenAnswer } from './answer.ts';
import type { TraceRow } from './trace.ts';

export const SOURCES = ['trace', 'workers', 'metering', 'ledger'] as const;
export type Source = (typeof SOURCES)[number];
export const MEASURES = ['input', 'output', 'pico'] as const;
export type Measure = (typeof MEASURES)[number];

/** Tokens in and out, and money in pico-USD. */
export type Figures = Readonly<Record<Measure, bigint>>;
export type BySource<T> = Readonly<Record<Source, T>>;

/** One row of the trace as it was sent, and what came of it. */
export interface Sent {
  readonly row: TraceRow;
  readonly keyId: string;
  readonly keyName: string;
  readonly model: string;
  /** From the answer's head; undefined where none came. */
  readonly requestId: string | undefined;
  /** The attempt whose answer was delivered. */
  readonly attempt: number;
  /** Undefined where it did not come whole. */
  readonly answer: SeenAnswer | undefined;
  /** Why not. */
  readonly failure: string | undefined;
}

export interface WorkerLine {
  /** `<request id>.<attempt>` */
  readonly requestId: string;
  readonly figures: Figures;
}

/** What was found in each place, by request id. Each is read from its own. */
export interface Facts {
  /** By row: tokens of the trace, at the price list. */
  readonly trace: ReadonlyMap<number, Figures>;
  /** A request with retries has several lines. */
  readonly workers: readonly WorkerLine[];
  readonly metering: ReadonlyMap<string, Figures>;
  readonly ledger: ReadonlyMap<string, Figures>;
}

export interface Group {
  readonly key: string;
  readonly model: string;
  requests: number;
  readonly sums: Record<Source, Record<Measure, bigint>>;
  /** Summed by request, so that a too much and a too little do not make up for each other. */
  readonly difference: Record<Measure, bigint>;
}

export interface Mismatch {
  readonly requestId: string;
  readonly row: number;
  readonly what: string;
}

export interface Reconciled {
  readonly groups: readonly Group[];
  readonly mismatches: readonly Mismatch[];
  readonly answered: number;
  readonly unanswered: {
    readonly count: number;
    readonly reasons: ReadonlyMap<string, number>;
    /** Records of this run that belong to no answered request. */
    readonly metered: number;
    /** Those that have tokens. */
    readonly withTokens: number;
    /** Those that the organization paid for. */
    readonly charged: number;
    readonly figures: Figures;
  };
  /** Lines of the workers' logs that were not delivered: retries, and what unanswered requests caused. */
  readonly undelivered: { readonly attempts: number; readonly figures: Figures };
  readonly ok: boolean;
}

const NOTHING: Figures = { input: 0n, output: 0n, pico: 0n };
const none = (): Record<Measure, bigint> => ({ ...NOTHING });

/**
 * Joins the four accounts by request id. Every request that the client saw answered whole has to be in all of them, with
 * the same tokens and the same money; the others may or may not, and no more records may be there than requests were sent.
 */
export function reconcile(sent: readonly Sent[], facts: Facts): Reconciled {
  const lines = new Map<string, Figures>();
  for (const { requestId, figures } of facts.workers) lines.set(requestId, add(lines.get(requestId), figures));
  const groups = new Map<string, Group>();
  const mismatches: Mismatch[] = [];
  const answeredIds = new Set<string>();
  const delivered = new Set<string>();

  for (const one of sent) {
    if (one.answer === undefined || one.requestId === undefined) continue;
    const { requestId, row } = one;
    const wrong = (what: string) => mismatches.push({ requestId, row: row.index, what });
    if (answeredIds.has(requestId)) wrong('this request id answered twice');
    answeredIds.add(requestId);
    delivered.add(`${requestId}.${one.attempt}`);
    const { usage, textTokens } = one.answer;
    if (usage === undefined) wrong('the answer says no usage');
    else if (usage.input !== row.contextTokens || usage.output !== row.generatedTokens) {
      wrong(`the answer says ${usage.input} in, ${usage.output} out`);
    }
    if (textTokens !== row.generatedTokens) wrong(`the text of the answer has ${textTokens} tokens`);
    const found: BySource<Figures | undefined> = {
      trace: facts.trace.get(row.index),
      workers: lines.get(`${requestId}.${one.attempt}`),
      metering: facts.metering.get(requestId),
      ledger: facts.ledger.get(requestId),
    };
    const group = groupOf(groups, one);
    group.requests++;
    for (const source of SOURCES) {
      if (found[source] === undefined) wrong(`not in ${source}`);
      for (const measure of MEASURES) group.sums[source][measure] += (found[source] ?? NOTHING)[measure];
    }
    for (const measure of MEASURES) {
      const values = SOURCES.map((source) => (found[source] ?? NOTHING)[measure]);
      const spread = values.reduce(larger) - values.reduce(smaller);
      group.difference[measure] += spread;
      if (spread !== 0n) wrong(`${measure}: ${SOURCES.map((source, i) => `${source} ${values[i]}`).join(', ')}`);
    }
  }

  const unanswered = sent.filter(({ answer, requestId }) => answer === undefined || requestId === undefined);
  const rest = [...facts.metering].filter(([id]) => !answeredIds.has(id));
  const charged = [...facts.ledger].filter(([id]) => !answeredIds.has(id));
  for (const [name, extra] of [['metering', rest] as const, ['ledger', charged] as const]) {
    if (extra.length <= unanswered.length) continue;
    mismatches.push({
      requestId: '',
      row: -1,
      what: `${name} has ${extra.length - unanswered.length} requests too many`,
    });
  }
  const ours = new Set(sent.flatMap(({ requestId }) => requestId ?? []));
  for (const [id] of rest) ours.add(id);
  const undelivered = [...lines].filter(([id]) => !delivered.has(id) && ours.has(id.slice(0, id.lastIndexOf('.'))));
  return {
    groups: [...groups.values()].sort((a, b) => (a.key + a.model < b.key + b.model ? -1 : 1)),
    mismatches,
    answered: answeredIds.size,
    unanswered: {
      count: unanswered.length,
      reasons: tally(unanswered.map(({ failure }) => failure ?? 'no request id')),
      metered: rest.length,
      withTokens: rest.filter(([, { input, output }]) => input + output > 0n).length,
      charged: charged.filter(([, { pico }]) => pico !== 0n).length,
      figures: rest.reduce((sum, [, figures]) => add(sum, figures), NOTHING),
    },
    undelivered: {
      attempts: undelivered.length,
      figures: undelivered.reduce((sum, [, figures]) => add(sum, figures), NOTHING),
    },
    ok: mismatches.length === 0,
  };
}

/** The sums over all groups. */
export function totals(groups: readonly Group[]): Pick<Group, 'requests' | 'sums' | 'difference'> {
  const sum = { requests: 0, sums: emptySums(), difference: none() };
  for (const group of groups) {
    sum.requests += group.requests;
    for (const measure of MEASURES) {
      sum.difference[measure] += group.difference[measure];
      for (const source of SOURCES) sum.sums[source][measure] += group.sums[source][measure];
    }
  }
  return sum;
}

function groupOf(groups: Map<string, Group>, { keyId, keyName, model }: Sent): Group {
  const name = JSON.stringify([keyId, model]);
  let group = groups.get(name);
  if (group === undefined) {
    group = { key: keyName, model, requests: 0, sums: emptySums(), difference: none() };
    groups.set(name, group);
  }
  return group;
}

const emptySums = (): Record<Source, Record<Measure, bigint>> => ({
  trace: none(),
  workers: none(),
  metering: none(),
  ledger: none(),
});

const add = (a: Figures | undefined, b: Figures): Figures =>
  a === undefined ? b : { input: a.input + b.input, output: a.output + b.output, pico: a.pico + b.pico };
const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

function tally(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map([...counts].sort((a, b) => b[1] - a[1]));
}

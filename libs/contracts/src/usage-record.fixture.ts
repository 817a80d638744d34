import type { UsageBatch, UsageRecord } from './gateway.js';

/** What is known of a request when it is admitted, and stays as it is: the record without its end. */
const OPENED = {
  requestId: 'req-1',
  organizationId: 'org-1',
  project: 'default',
  workload: 'chat',
  keyId: 'key-1',
  model: 'sim/small',
  endpoint: 'chat/completions',
  stream: false,
  priceVersion: 'p1',
  prices: { input: '2', cachedInput: '1', output: '3' },
  startedAt: '2026-11-20T10:00:00.000Z',
} satisfies Partial<UsageRecord>;

type Opened = Pick<UsageRecord, keyof typeof OPENED>;

export const anOpenedRequest = (change: Partial<Opened> = {}): Opened => ({ ...OPENED, ...change });

/** Costs 80·2 + 20·1 + 30·3 = 270 pico-USD; ended in the last millisecond of a minute. */
export const aUsageRecord = (change: Partial<UsageRecord> = {}): UsageRecord => ({
  ...OPENED,
  attempt: 1,
  seq: 0,
  outcome: 'ok',
  rank: 4,
  estimated: false,
  inputTokens: '100',
  cachedInputTokens: '20',
  outputTokens: '30',
  worker: 'w1',
  endedAt: '2026-11-20T10:00:59.999Z',
  ttftMs: 12.5,
  ...change,
});

/** A batch that promises from the first record to the last, in the order given. */
export const aUsageBatch = (records: UsageRecord[], boot = 'boot-1'): UsageBatch => ({
  boot,
  from: records[0]!.seq,
  to: records.at(-1)!.seq,
  records,
});

/** The records as a journal numbers them, from 0. */
export const inJournal = (records: readonly UsageRecord[]): UsageRecord[] =>
  records.map((record, seq) => ({ ...record, seq }));

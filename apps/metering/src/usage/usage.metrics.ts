import type { UsageBatch } from '@sluice/contracts/gateway';
import { Counter, Gauge } from 'prom-client';
import type { Contribution } from './rollup.js';
import type { UsageDecision } from './usage.decider.js';

const tokens = new Counter({
  name: 'sluice_metering_tokens_total',
  help: 'Tokens booked. For rates: a record that replaces another counts anew; the tables are exact.',
  labelNames: ['model', 'direction'] as const,
});
const audio = new Counter({
  name: 'sluice_metering_audio_seconds_total',
  help: 'Seconds of audio booked. For rates, as the tokens are.',
  labelNames: ['model'] as const,
});
const records = new Counter({ name: 'sluice_metering_records_total', help: 'Usage records taken from the stream.' });
const duplicates = new Counter({
  name: 'sluice_metering_duplicates_total',
  help: 'Usage records that changed nothing: seen before, or less certain than what is known.',
});
const quarantined = new Counter({
  name: 'sluice_metering_quarantined_total',
  help: 'Usage records set aside, in table usage_quarantine.',
  labelNames: ['reason'] as const,
});
const lag = new Gauge({
  name: 'sluice_metering_lag_seconds',
  help: 'Between the end of the newest request of the last batch and its booking.',
});

/** After the commit: a transaction that is rolled back has not happened. */
export function countBatches(batches: readonly UsageBatch[], decision: UsageDecision, now: number): void {
  const taken = batches.flatMap((batch) => batch.records);
  records.inc(taken.length);
  duplicates.inc(decision.duplicates);
  for (const { reason } of decision.quarantined) quarantined.inc({ reason });
  const booked = decision.contributions.filter(({ requests }) => requests > 0n);
  for (const [model, own] of Map.groupBy(booked, (c) => c.model)) {
    const sum = (of: (c: Contribution) => bigint) => Number(own.reduce((total, c) => total + of(c), 0n));
    tokens.inc(
      { model, direction: 'input' },
      sum((c) => c.inputTokens - c.cachedInputTokens),
    );
    tokens.inc(
      { model, direction: 'cached_input' },
      sum((c) => c.cachedInputTokens),
    );
    tokens.inc(
      { model, direction: 'output' },
      sum((c) => c.outputTokens),
    );
    const audioMs = sum((c) => c.audioMs);
    if (audioMs > 0) audio.inc({ model }, audioMs / 1000);
  }
  const newest = Math.max(...taken.map((record) => Date.parse(record.endedAt)));
  lag.set(Math.max(0, now - newest) / 1000);
}

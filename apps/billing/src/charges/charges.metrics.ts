import type { UsageBatch } from '@sluice/contracts/gateway';
import { PICO_PER_USD } from '@sluice/primitives/money';
import { Counter, Gauge } from 'prom-client';
import type { ChargesDecision } from './charges.decider.js';

const records = new Counter({ name: 'sluice_billing_records_total', help: 'Usage records taken from the stream.' });
const duplicates = new Counter({
  name: 'sluice_billing_duplicates_total',
  help: 'Usage records that changed nothing: seen before, or less certain than what is known.',
});
const quarantined = new Counter({
  name: 'sluice_billing_quarantined_total',
  help: 'Usage records set aside, in table usage_quarantine.',
  labelNames: ['reason'] as const,
});
const charged = new Counter({
  name: 'sluice_billing_charged_usd_total',
  help: 'Charged, in USD. For rates: what a better record gives back is not subtracted; the ledger is exact.',
});
const absorbed = new Counter({
  name: 'sluice_billing_absorbed_usd_total',
  help: 'Usage that no credit covered, in USD. For rates; the ledger is exact.',
});
const lag = new Gauge({
  name: 'sluice_billing_lag_seconds',
  help: 'Between the end of the newest request of the last batch and its charge.',
});

/** After the commit: a transaction that is rolled back has not happened. */
export function countBatches(batches: readonly UsageBatch[], decision: ChargesDecision, now: number): void {
  const taken = batches.flatMap((batch) => batch.records);
  records.inc(taken.length);
  duplicates.inc(decision.duplicates);
  for (const { reason } of decision.quarantined) quarantined.inc({ reason });
  for (const { before, charge } of decision.bookings) {
    charged.inc(usd(charge.charged - (before?.charged ?? 0n)));
    absorbed.inc(usd(charge.absorbed - (before?.absorbed ?? 0n)));
  }
  const newest = Math.max(...taken.map((record) => Date.parse(record.endedAt)));
  lag.set(Math.max(0, now - newest) / 1000);
}

const usd = (pico: bigint): number => Math.max(0, Number(pico) / Number(PICO_PER_USD));

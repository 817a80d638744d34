import { replayedBatchId, type SettledResponse } from '@sluice/contracts/gateway';
import type { Clock } from '@sluice/primitives/clock';
import type { NewId } from '@sluice/primitives/id';
import { loggerFor } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import { batched, endsOf, messageOf, type End } from './batch.js';
import { JournalReader } from './segments.service.js';
import type { PublishBatch } from './usage-publisher.service.js';

/** At one go: some megabytes. The next go is at the next answer. */
const MOST_RECORDS = 5_000;
/** Between two rounds over what is missing; longer each time that a round did not help. */
const PAUSE_MS = { min: 2_000, max: 60_000 };

const replayed = new Counter({
  name: 'gateway_usage_replayed_total',
  help: 'Usage records that were published again, as metering or billing missed them.',
});

/**
 * Publishes again what metering or billing never got, from the journal that is kept until they have: each time under a new
 * name, as the server may still remember that of a batch which it lost. A record that comes twice counts once.
 */
export class Replays {
  private readonly log = loggerFor('replays');
  /** Of this round: what is below has been published again. */
  private next = 0;
  private pauseMs = 0;
  /** Monotonic milliseconds. */
  private notBefore = 0;

  constructor(
    private readonly boot: string,
    private readonly folder: string,
    private readonly publish: PublishBatch,
    private readonly clock: Clock,
    private readonly newId: NewId,
  ) {}

  /** @param first the segment to begin with, which has all that is missing in it or behind it */
  async again(missing: SettledResponse['missing'], first?: number): Promise<void> {
    if (missing.length === 0) {
      this.next = 0;
      this.pauseMs = 0;
      this.notBefore = 0;
      return;
    }
    if (this.clock.monotonic() < this.notBefore) return;
    const ends = await this.read(missing, first);
    if (ends.length === 0) {
      this.next = 0;
      this.pauseMs = Math.min(Math.max(this.pauseMs * 2, PAUSE_MS.min), PAUSE_MS.max);
      this.notBefore = this.clock.monotonic() + this.pauseMs;
      return;
    }
    const { boot } = this;
    this.log.warn({ boot, missing, records: ends.length }, 'usage records are published again');
    for (const batch of batched(ends)) {
      const { subject, payload } = messageOf(boot, batch);
      await this.publish(subject, payload, replayedBatchId({ boot, ...batch }, this.newId()));
      this.next = batch.to + 1;
      replayed.inc(batch.records.length);
    }
  }

  private async read(missing: SettledResponse['missing'], first: number | undefined): Promise<End[]> {
    const found: End[] = [];
    const end = Math.max(...missing.map(([, to]) => to));
    const reader = new JournalReader(this.folder, first);
    try {
      for (let lines = await reader.read(); lines.length > 0; lines = await reader.read()) {
        const ends = endsOf(lines, () => {});
        for (const one of ends) {
          if (one.seq >= this.next && missing.some(([from, to]) => from <= one.seq && one.seq < to)) found.push(one);
        }
        if (found.length >= MOST_RECORDS || (ends.at(-1)?.seq ?? 0) >= end) break;
      }
    } finally {
      await reader.close();
    }
    return found.slice(0, MOST_RECORDS);
  }
}

import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { UsageBatch, UsageRecord } from '@sluice/contracts/gateway';
import { settledOf, sourcesOf } from '@sluice/contracts/usage-claim';
import { setAside, settle, settledBelow } from '@sluice/event-store';
import { systemClock } from '@sluice/primitives/clock';
import { foldedAmong } from '../folding/folded-days.store.js';
import { keyTotalChanges } from '../key-totals/key-totals.js';
import { addToKeyTotals } from '../key-totals/key-totals.store.js';
import { untimely } from '../retention/record-days.js';
import { makeRecordDays, recordDays } from '../retention/record-days.store.js';
import { lateDays } from './late-days.js';
import { keepLateDays } from './late-days.store.js';
import { claimRows, insertRecords, lockBooked, recordColumns, replaceRecords } from './records.store.js';
import { dayAt, dayOfRequest } from './request-day.js';
import { BUCKET_MS, rollUp, rollUps, type Contribution } from './rollup.js';
import { addToRollup } from './rollup.store.js';
import { decideUsage, incomingOf, type Reason, type UsageDecision } from './usage.decider.js';

@Injectable()
export class UsageStore {
  /** Days that had a partition when it was looked last. */
  private days: ReadonlySet<string> = new Set();

  constructor(private readonly em: EntityManager) {}

  /**
   * Takes batches in one transaction: claims, quarantine, rollups, totals of keys, settled ranges. A batch that comes
   * again, whole or in other pieces, changes nothing. Statements per transaction, not per record. Locks are taken in the
   * same order by everybody: claims by request id, late days, what is set aside, days that may be folded, rollups by their
   * keys, keys, then boots. What all batches share comes last: a hot key's rows are held for a few round trips and the commit.
   */
  async take(...batches: readonly UsageBatch[]): Promise<UsageDecision> {
    const sources = sourcesOf(batches);
    const untimely = await this.untimely([...sources.keys()]);
    try {
      return await this.em.fork().transactional(async (em) => this.book(em, batches, sources, untimely));
    } catch (error) {
      // A partition may have been dropped since it was looked: next time it is looked again.
      this.days = new Set();
      throw error;
    }
  }

  /** Every record of this boot with `seq` below it is booked or set aside here. */
  async settledBelow(boot: string): Promise<number> {
    return settledBelow(this.em.fork(), boot);
  }

  private async book(
    em: EntityManager,
    batches: readonly UsageBatch[],
    sources: ReadonlyMap<UsageRecord, string>,
    untimely: Untimely,
  ): Promise<UsageDecision> {
    const decision = await this.claim(em, sources, untimely);
    await keepLateDays(em, lateDays(decision.claims.values()));
    await setAside(
      em,
      decision.quarantined.map(({ record, hash, reason }) => ({
        id: record.requestId,
        hash,
        reason,
        source: sources.get(record)!,
        content: record,
      })),
    );
    const inFolded = await this.inFoldedDays(em, decision.contributions);
    for (const [granularities, rows] of rollUps(decision.contributions)) await addToRollup(em, granularities, rows);
    await addToRollup(em, ['day_all_keys'], rollUp(inFolded, 'day_all_keys'));
    await addToKeyTotals(em, keyTotalChanges(decision.contributions, decision.seen));
    await settle(em, settledOf(batches));
    return decision;
  }

  /**
   * Nearly every record is new, so it is inserted first and asked about afterwards: the insert waits for another
   * transaction that has the same request, which closes the gap between looking and claiming.
   */
  private async claim(
    em: EntityManager,
    sources: ReadonlyMap<UsageRecord, string>,
    untimely: Untimely,
  ): Promise<UsageDecision> {
    const records = Array.from(sources.keys(), (record) => incomingOf(record, untimely));
    const columns = recordColumns(sources);
    const asNew = decideUsage(new Map(), records);
    const inserted = await insertRecords(em, columns, claimRows(asNew));
    const known = Array.from(asNew.claims.keys()).filter((requestId) => !inserted.has(requestId));
    if (known.length === 0) return asNew;
    const booked = await lockBooked(em, known);
    const decision = decideUsage(booked, records);
    await replaceRecords(
      em,
      columns,
      claimRows(decision).filter(({ record }) => booked.has(record.requestId)),
    );
    return decision;
  }

  /**
   * What belongs to a folded day, too. Nearly always everything is of today, which nobody folds before the day after
   * tomorrow: then nothing is asked.
   */
  private async inFoldedDays(em: EntityManager, contributions: readonly Contribution[]): Promise<Contribution[]> {
    const now = systemClock.now();
    const past = contributions.filter(({ endedAt }) => endedAt < now - (now % BUCKET_MS.day));
    const folded = await foldedAmong(em, [...new Set(past.map(({ endedAt }) => dayAt(endedAt)))].sort());
    return past.filter(({ endedAt }) => folded.has(dayAt(endedAt)));
  }

  /** Looks for partitions again only where a record is of a day that had none, and makes what there should be by now. */
  private async untimely(records: readonly UsageRecord[]): Promise<Untimely> {
    const today = dayAt(systemClock.now());
    if (!records.every(({ requestId }) => this.days.has(dayOfRequest(requestId)))) {
      await makeRecordDays(this.em, today);
      this.days = new Set(await recordDays(this.em.fork()));
    }
    const { days } = this;
    return ({ requestId }) => untimely(dayOfRequest(requestId), days, today);
  }
}

type Untimely = (record: UsageRecord) => Reason | undefined;

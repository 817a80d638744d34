import type { EntityManager } from '@mikro-orm/postgresql';
import { USAGE } from '@sluice/contracts/subjects';
import { enqueue, gapFigures, GapWatch, type OutboxRelay } from '@sluice/event-store';
import type { Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { gauge, loggerFor } from '@sluice/service-kit';
import { PARTITIONS, usageDurable } from '../usage/usage.consumer.js';
import { gapMessages } from './gap.publisher.js';

const LOOK_EVERY_MS = 1_000;
/** A gateway's restart, with its disk moved to another machine, is over by then. */
const ABANDONED_MS = 600_000;

/** Looks for records that were published and never came, and tells of them. @param afterMs how long they must be missing */
export function usageGaps(em: EntityManager, messaging: Messaging, relay: OutboxRelay, afterMs: number): GapWatch {
  const log = loggerFor('usage-gaps');
  const figure = (name: string, help: string, read: (figures: Awaited<ReturnType<typeof gapFigures>>) => number) =>
    gauge(name, help, async () => gapFigures(em.fork()).then(read, () => Number.NaN));
  figure('sluice_metering_gaps', 'Gaps that gateways are asked to fill', ({ open }) => open);
  figure('sluice_metering_gaps_given_up', 'Gaps of which nobody has the journal any more', ({ givenUp }) => givenUp);
  figure('sluice_metering_missing_records', 'Records in all of these gaps', ({ records }) => records);
  figure('sluice_metering_oldest_gap_seconds', 'Age of the oldest gap not given up', (seen) => seen.oldestSeconds);
  return new GapWatch({
    em,
    clock: systemClock,
    position: () => messaging.position(USAGE, PARTITIONS.map(usageDurable)),
    onChange: async (tx, decision) => void (await enqueue(tx, gapMessages(decision, systemClock.now(), systemId))),
    onChanged: ({ opened, closed, givenUp }) => {
      if (opened.length + closed.length + givenUp.length > 0) relay.nudge();
      if (opened.length > 0) log.error({ gaps: opened }, 'usage records that were published are missing');
      if (givenUp.length > 0) log.error({ gaps: givenUp }, 'nobody has the journal of missing usage records any more');
      if (closed.length > 0) log.info({ gaps: closed }, 'missing usage records have come');
    },
    onError: (err) => log.debug({ err }, 'could not look for gaps'),
    everyMs: LOOK_EVERY_MS,
    afterMs,
    abandonedMs: ABANDONED_MS,
  });
}

import type { EntityManager } from '@mikro-orm/postgresql';
import { USAGE } from '@sluice/contracts/subjects';
import { gapFigures, GapWatch } from '@sluice/event-store';
import type { Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { gauge, loggerFor } from '@sluice/service-kit';

const LOOK_EVERY_MS = 1_000;
/** As metering's, whose watch is the one that tells others. */
const ABANDONED_MS = 600_000;

/** Looks for records that were published and were never charged here. @param afterMs how long they must be missing */
export function chargeGaps(em: EntityManager, messaging: Messaging, afterMs: number): GapWatch {
  const log = loggerFor('usage-gaps');
  gauge('sluice_billing_gaps', 'Gaps in the usage that gateways are asked to fill', () =>
    gapFigures(em.fork()).then(
      ({ open }) => open,
      () => Number.NaN,
    ),
  );
  gauge('sluice_billing_missing_records', 'Records in all gaps, those that were given up too', () =>
    gapFigures(em.fork()).then(
      ({ records }) => records,
      () => Number.NaN,
    ),
  );
  return new GapWatch({
    em,
    clock: systemClock,
    position: () => messaging.position(USAGE, ['billing-usage']),
    onChanged: ({ opened, closed, givenUp }) => {
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

import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { usageGapClosedV1, usageGapV1 } from '@sluice/contracts/metering';
import { eventSubject } from '@sluice/contracts/subjects';
import type { Gap, GapDecision, OutboundMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import type { NewId } from '@sluice/primitives/id';

/** What the world hears of gaps. They are the platform's, as nobody knows whose records are missing. */
export function gapMessages({ opened, closed, givenUp }: GapDecision, now: number, newId: NewId): OutboundMessage[] {
  const time = rfc3339(now);
  const fieldsOf = (id: string, { source, from, to }: Gap) => ({
    id,
    source: '/sluice/metering',
    subject: source,
    time,
    correlationId: `${source}:${from}-${to}`,
  });
  const ended = (gap: Gap, how: 'replayed' | 'given_up'): OutboundMessage => {
    const { source: boot, from, to } = gap;
    const type = 'sluice.metering.usage.gap_closed.v1';
    const id = newId();
    return {
      id,
      subject: eventSubject(type, 'platform', id),
      payload: usageGapClosedV1.parse(wrap(type, fieldsOf(id, gap), { boot, from, to, how, closedAt: time })),
      contentType: CLOUD_EVENT_CONTENT_TYPE,
    };
  };
  return [
    ...opened.map((gap): OutboundMessage => {
      const { source: boot, from, to } = gap;
      const type = 'sluice.metering.usage.gap.v1';
      const id = newId();
      return {
        id,
        subject: eventSubject(type, 'platform', id),
        payload: usageGapV1.parse(wrap(type, fieldsOf(id, gap), { boot, from, to, seenAt: time })),
        contentType: CLOUD_EVENT_CONTENT_TYPE,
      };
    }),
    ...givenUp.map((gap) => ended(gap, 'given_up')),
    ...closed.map((gap) => ended(gap, 'replayed')),
  ];
}

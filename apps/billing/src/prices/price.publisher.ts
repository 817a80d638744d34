import { priceSetV1, type Price } from '@sluice/contracts/billing';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import type { PriceVersion } from './price.decider.js';

/** A price as others see it. */
export const priceContract = (price: PriceVersion): Price => ({
  version: price.version,
  model: price.model,
  prices: {
    input: String(price.prices.input),
    cachedInput: String(price.prices.cachedInput),
    output: String(price.prices.output),
    ...(price.prices.audioMs ? { audioSecond: String(price.prices.audioMs * 1_000n) } : {}),
  },
  effectiveFrom: rfc3339(price.effectiveFrom),
});

/** Prices are the platform's, not an organization's: that place in the subject says `platform`. */
export function priceSetMessage(
  price: PriceVersion,
  { now, correlationId }: { now: number; correlationId: string },
): OutboundMessage {
  const type = 'sluice.billing.price.set.v1';
  const fields = {
    id: price.version,
    source: '/sluice/billing',
    subject: price.version,
    time: rfc3339(now),
    correlationId,
  };
  return {
    id: price.version,
    subject: eventSubject(type, 'platform', price.version),
    payload: priceSetV1.parse(wrap(type, fields, priceContract(price))),
    contentType: CLOUD_EVENT_CONTENT_TYPE,
  };
}

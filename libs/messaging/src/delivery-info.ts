/** What the reply subject of a delivered message says about it. */
export interface DeliveryInfo {
  readonly streamSequence: number;
  readonly consumerSequence: number;
  readonly deliveries: number;
  /** When the stream took it: nanoseconds since the Unix epoch. */
  readonly timestamp: bigint;
}

/**
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<timestamp>.<pending>`, or with domain and
 * account hash before the stream.
 */
export function parseDeliveryInfo(reply: string): DeliveryInfo | undefined {
  const tokens = reply.split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined;
  const start = tokens.length === 9 ? 4 : tokens.length >= 11 ? 6 : -1;
  if (start < 0) return undefined;
  const [deliveries, streamSequence, consumerSequence, timestamp] = tokens.slice(start, start + 4);
  return {
    deliveries: Number(deliveries),
    streamSequence: Number(streamSequence),
    consumerSequence: Number(consumerSequence),
    timestamp: BigInt(timestamp!),
  };
}

/** Streams of JetStream and the subjects in them. One place, so that a publisher and a consumer can't disagree. */
const DAY = 24 * 60 * 60 * 1000;
const SECOND = 1000;
/** The server reserves what the streams may grow to: together they must fit on a newcomer's disk. */
const GIB = 1024 ** 3;

export interface StreamDefinition {
  readonly name: string;
  readonly subjects: readonly string[];
  /** Milliseconds a message is kept. */
  readonly maxAge: number;
  readonly maxBytes: number;
  readonly discard: 'old' | 'new';
  readonly maxMessagesPerSubject?: number;
  readonly denyDelete?: boolean;
  readonly denyPurge?: boolean;
  /** Milliseconds in which a repeated `Nats-Msg-Id` is dropped. An optimisation; correctness is in the inboxes. */
  readonly duplicateWindow: number;
  /** Durable consumers of before, which nobody reads any more: the provisioning step removes them. */
  readonly retiredConsumers?: readonly string[];
}

const facts = (domain: string): StreamDefinition => ({
  name: `EVT_${domain.toUpperCase()}`,
  subjects: [`evt.${domain}.>`],
  maxAge: 90 * DAY,
  maxBytes: GIB,
  discard: 'new',
  denyDelete: true,
  denyPurge: true,
  duplicateWindow: 120 * SECOND,
});

export const KEYFEED = 'KEYFEED';
export const KEYUSE = 'KEYUSE';
export const KEYS_METERED = 'keyuse.metering.*';
export const KEYS_SPENT = 'keyuse.billing.*';
export const USAGE = 'USAGE';
export const HORIZON = 'HORIZON';
export const DLQ = 'DLQ';
export const REDRIVE = 'REDRIVE';
export const REFUSED = 'REFUSED';

export const STREAMS: readonly StreamDefinition[] = [
  facts('auth'),
  facts('billing'),
  facts('metering'),
  {
    // Every message, not the last per key: a barrier proves that all before it were seen, and one that was replaced by
    // a message behind the barrier never is. A lease lives for seconds, so that minutes of them are far more than enough.
    name: KEYFEED,
    subjects: ['keyfeed.>'],
    maxAge: 600 * SECOND,
    maxBytes: GIB / 4,
    discard: 'old',
    duplicateWindow: 120 * SECOND,
  },
  {
    // State, not facts: what each key has used and spent so far, the newest message per key and teller.
    name: KEYUSE,
    subjects: [KEYS_METERED, KEYS_SPENT],
    maxAge: 7 * DAY,
    maxBytes: GIB / 4,
    discard: 'old',
    maxMessagesPerSubject: 1,
    duplicateWindow: 120 * SECOND,
  },
  {
    // A way, not the place where usage is kept: that is the journals, until metering and billing have it. A stream that is
    // full goes on with the newest, and what was pushed out unread is seen as a gap and published again.
    name: USAGE,
    subjects: ['usage.v1.>'],
    maxAge: 14 * DAY,
    maxBytes: 2 * GIB,
    discard: 'old',
    duplicateWindow: 120 * SECOND,
    // Its successors, one per partition, read from the beginning: what it had booked is claimed.
    retiredConsumers: ['metering-usage'],
  },
  {
    // State: until when each gateway's process has told all. That it begun is kept apart, as what it says later must not
    // take the place of that in the order in which all of them are read.
    name: HORIZON,
    subjects: ['horizon.v1.*.*'],
    maxAge: 14 * DAY,
    maxBytes: GIB / 16,
    discard: 'old',
    maxMessagesPerSubject: 1,
    duplicateWindow: 120 * SECOND,
  },
  {
    // Counts, not records: what does not fit, or waits for longer than this, may be forgotten.
    name: REFUSED,
    subjects: ['refused.v1.*'],
    maxAge: 3 * DAY,
    maxBytes: GIB / 8,
    discard: 'old',
    duplicateWindow: 120 * SECOND,
  },
  {
    name: DLQ,
    subjects: ['dlq.>'],
    maxAge: 30 * DAY,
    maxBytes: GIB / 4,
    discard: 'old',
    duplicateWindow: 120 * SECOND,
  },
  {
    // What operators decided about dead letters: sent again to the one consumer that could not handle them, or given up
    // with a reason. A decision that is repeated is one, for as long as it is kept; where there is no room the dead letter
    // stays one.
    name: REDRIVE,
    subjects: ['redrive.>', 'dropped.>'],
    maxAge: 30 * DAY,
    maxBytes: GIB / 4,
    discard: 'new',
    duplicateWindow: 30 * DAY,
  },
];

export const USAGE_PARTITIONS = 4;
export const usageSubject = (partition: number): string => `usage.v1.${partition}`;

export const horizonBegunSubject = (boot: string): string => `horizon.v1.begun.${boot}`;
export const horizonToldSubject = (boot: string): string => `horizon.v1.told.${boot}`;
export const HORIZONS = 'horizon.v1.*.*';

/** `evt.<domain>.<aggregate>.<event>.v<major>.<org>.<id>`; ids are tokens without dots. */
export const eventSubject = (type: string, organizationId: string, id: string): string => {
  const [, domain, aggregate, event, version] = /^sluice\.(\w+)\.(\w+)\.(\w+)\.(v\d+)$/.exec(type) ?? [];
  if (!version) throw new Error(`not an event type: ${type}`);
  return `evt.${domain}.${aggregate}.${event}.${version}.${organizationId}.${id}`;
};

/** The dead letters of a durable consumer. */
export const deadLetterSubject = (stream: string, durable: string): string => `dlq.${stream}.${durable}`;
/** What this consumer, and no other of its stream, is to handle again. */
export const redriveSubject = (stream: string, durable: string): string => `redrive.${stream}.${durable}`;
/** Dead letters of this consumer that were given up. */
export const droppedSubject = (stream: string, durable: string): string => `dropped.${stream}.${durable}`;

export const keyfeedKeySubject = (keyId: string): string => `keyfeed.key.${keyId}`;
export const keyfeedBarrierSubject = (boot: string): string => `keyfeed.barrier.${boot}`;
export const keyMeteredSubject = (keyId: string): string => `keyuse.metering.${keyId}`;
/** What a process of a gateway has refused so far. */
export const refusedSubject = (boot: string): string => `refused.v1.${boot}`;
export const keySpentSubject = (keyId: string): string => `keyuse.billing.${keyId}`;
/** Whether an id can stand in a subject: a dot would make two tokens of it, a `*` or `>` all of them. */
export const isSubjectToken = (id: string): boolean => /^[A-Za-z0-9_-]{1,128}$/.test(id);
export const heartbeatSubject = (workerId: string): string => `workers.v1.heartbeat.${workerId}`;
export const HEARTBEATS = 'workers.v1.heartbeat.*';

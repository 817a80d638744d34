import { z } from 'zod';

/** Content type of every public event: CloudEvents 1.0, structured mode. */
export const CLOUD_EVENT_CONTENT_TYPE = 'application/cloudevents+json';

const base = {
  specversion: z.literal('1.0'),
  /** Unique id of the event; also its `Nats-Msg-Id`. */
  id: z.uuid(),
  source: z.string().min(1),
  /** Id of the thing it is about. */
  subject: z.string().min(1),
  time: z.iso.datetime(),
  datacontenttype: z.literal('application/json'),
  correlationid: z.string().min(1),
  causationid: z.string().min(1).optional(),
  traceparent: z.string().optional(),
};

/** A public event: a CloudEvent of one type with a schema for its data. */
export function cloudEvent<T extends string, D extends z.ZodType>(type: T, data: D) {
  return z.object({ ...base, type: z.literal(type), data });
}

export type CloudEvent = z.infer<ReturnType<typeof cloudEvent<string, z.ZodType>>>;

export interface EnvelopeFields {
  readonly id: string;
  readonly source: string;
  readonly subject: string;
  /** RFC 3339 UTC. */
  readonly time: string;
  readonly correlationId: string;
  readonly causationId?: string | undefined;
  readonly traceparent?: string | undefined;
}

/** Wraps data of a public event; absent optional attributes are left out, as CloudEvents asks. */
export function wrap<T extends string, D>(type: T, fields: EnvelopeFields, data: D) {
  return {
    specversion: '1.0' as const,
    type,
    id: fields.id,
    source: fields.source,
    subject: fields.subject,
    time: fields.time,
    datacontenttype: 'application/json' as const,
    correlationid: fields.correlationId,
    ...(fields.causationId === undefined ? {} : { causationid: fields.causationId }),
    ...(fields.traceparent === undefined ? {} : { traceparent: fields.traceparent }),
    data,
  };
}

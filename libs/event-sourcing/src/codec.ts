import { z } from 'zod';

/** The schema of the data of each event type, by the type's name. */
export type EventSchemas = Readonly<Record<string, z.ZodType>>;

/** The union of events that these schemas describe: `{ type: 'KeyIssued', data: {…} } | …`. */
export type EventsOf<S extends EventSchemas> = {
  [T in keyof S & string]: { readonly type: T; readonly data: z.output<S[T]> };
}[keyof S & string];

/** What a store holds of an event: its type and its data as JSON. */
export interface EncodedEvent {
  readonly type: string;
  readonly data: unknown;
}

/** The storage format of one kind of aggregate, checked on the way in and on the way out. */
export interface EventCodec<E> {
  encode(event: E): EncodedEvent;
  decode(stored: EncodedEvent): E;
}

/** An event that is not of a known type, or whose data is not what the schema says: a programmer's error or damage. */
export class InvalidEvent extends Error {
  override readonly name = 'InvalidEvent';
}

/** One codec from the schemas; money and dates are zod codecs, so `data` of an event is typed and its JSON is not. */
export function eventCodec<S extends EventSchemas>(schemas: S): EventCodec<EventsOf<S>> {
  const schemaOf = (type: string): z.ZodType => {
    const schema = Object.hasOwn(schemas, type) ? schemas[type] : undefined;
    if (!schema) throw new InvalidEvent(`unknown event type ${type}`);
    return schema;
  };
  const check = <T>(type: string, result: z.ZodSafeParseResult<T>): T => {
    // Only where it is wrong, never what was there: an event may carry what logs must not.
    if (!result.success) {
      const where = result.error.issues.map((issue) => `${issue.path.join('.') || '(data)'}: ${issue.code}`);
      throw new InvalidEvent(`data of ${type} is not valid: ${where.join(', ')}`);
    }
    return result.data;
  };
  return {
    encode: ({ type, data }) => ({ type, data: check(type, schemaOf(type).safeEncode(data)) }),
    decode: ({ type, data }) => ({ type, data: check(type, schemaOf(type).safeDecode(data as never)) }) as EventsOf<S>,
  };
}

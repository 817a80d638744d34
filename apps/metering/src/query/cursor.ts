import { createHash } from 'node:crypto';
import { z } from 'zod';
import { MAX_TIME, refused, textSchema } from './usage-params.js';

/** Milliseconds since the epoch. */
export const time = z.number().int().min(0).max(MAX_TIME);

/** Of every cursor: the window, so that a page of "until now" goes on with the same now, and the columns of the last row. */
export const cursorSchema = z.object({ shape: z.string(), from: time, to: time, values: z.array(textSchema) });
type Cursor = z.infer<typeof cursorSchema>;

/** What has to be asked again with a cursor. */
interface Shape {
  readonly granularity: string;
  readonly columns: readonly string[];
  readonly filters: Readonly<Record<string, string | undefined>>;
  readonly include?: readonly string[];
}

/** In as many characters whatever it is. */
function hashOf({ granularity, columns, filters, include = [] }: Shape): string {
  // Where nothing is included it is that of cursors from before anything could be.
  const more = include.length === 0 ? {} : { include: include.toSorted() };
  return createHash('sha256')
    .update(JSON.stringify({ granularity, columns, filters, ...more }))
    .digest('base64url');
}

/** @throws Rejected `invalid_request` for what is none, and for one of another query */
export function readCursor<C extends Cursor>(text: string, schema: z.ZodType<C>, shape: Shape): C {
  let cursor: C;
  try {
    cursor = schema.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')));
  } catch (cause) {
    throw refused('cursor', 'is not one of ours', cause);
  }
  if (cursor.shape !== hashOf(shape) || cursor.values.length !== shape.columns.length) throw refusedCursor();
  return cursor;
}

export const refusedCursor = () => refused('cursor', 'belongs to another query');

export function writeCursor<C extends Cursor>(
  query: Shape & Pick<Cursor, 'from' | 'to'>,
  position: Omit<C, 'shape' | 'from' | 'to'>,
): string {
  const cursor = { shape: hashOf(query), from: query.from, to: query.to, ...position };
  return Buffer.from(JSON.stringify(cursor)).toString('base64url');
}

import { Rejected } from '@sluice/contracts/errors';
import type { z } from 'zod';

/** The management plane's success envelope; `extra` stands beside `data`, for example `nextCursor`. */
export const ok = <T>(data: T, extra: Record<string, unknown> = {}) => ({ success: true as const, data, ...extra });

/** Parses outside input. @throws Rejected `invalid_request` naming the first field that is wrong */
export function parse<S extends z.ZodType>(
  schema: S,
  value: unknown,
  where: 'body' | 'query' | 'path' | 'header' = 'body',
): z.infer<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const param = unknown ?? (issue.path.length > 0 ? issue.path.join('.') : undefined);
  const sentence =
    unknown === undefined
      ? `${param === undefined ? `The ${where}` : param}: ${issue.message}.`
      : `Unknown field: ${unknown}.`;
  throw new Rejected('invalid_request', sentence, param === undefined ? {} : { param });
}

import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { z } from 'zod';
import { slugSchema } from './key-requests.js';

/** What a list takes: at most 1,000 at a time, and the last id of the page before. */
export const pageSchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(1_000),
  cursor: z.uuid().optional(),
});

/** A list of inference keys takes filters too. */
export const keyPageSchema = pageSchema.extend({
  project: slugSchema.optional(),
  tag: z.string().min(1).max(40).optional(),
});

/** One page of rows of which one more than `limit` was asked for; `nextCursor` is null at the end. */
export function pageOf<T extends { readonly keyId: string }>(rows: readonly T[], limit: number) {
  const page = rows.slice(0, limit);
  return { page, nextCursor: rows.length > limit ? page.at(-1)!.keyId : null };
}

/** The project to look into: the actor's own, or the one that is asked for. @throws Rejected `project_scope_mismatch` */
export function projectWithin({ project: own }: Pick<Actor, 'project'>, asked: string | undefined): string | null {
  if (own !== null && asked !== undefined && asked !== own) {
    throw new Rejected('project_scope_mismatch', undefined, { param: 'project' });
  }
  return asked ?? own;
}

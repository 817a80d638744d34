import { z } from 'zod';

const MAX_ROWS = 1_000;

/** A page of a list that goes back in time: `cursor` is the id of the last item of the page before. */
export const pageSchema = z.strictObject({
  cursor: z.uuid('is not one of ours').optional(),
  limit: z.coerce.number().int().min(1).max(MAX_ROWS).default(MAX_ROWS),
});

import { z } from 'zod';
import { usageRecordSchema, type UsageBatch } from './gateway.js';

/** SHA-256 of a record, base64url. */
export const quarantineHashSchema = z.string().regex(/^[\w-]{1,64}$/, 'is no hash of a record');

/** Of metering and of billing: GET /api/operator/quarantine/<service>. `cursor` is the hash of the last one of the page before. */
export const quarantinePageSchema = z.strictObject({
  cursor: quarantineHashSchema.optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(1_000),
});

/** POST /api/operator/quarantine/<service>/:hash/drop. */
export const quarantineDropSchema = z.strictObject({
  reason: z
    .string()
    .trim()
    .min(1)
    .max(500)
    .refine((text) => !text.includes('\0'), 'has a character that is no text'),
});

/** A record that was set aside, as the batch that it came in, had it come alone. @throws ZodError when it is none any more */
export function batchOfOne(content: unknown, boot: string): UsageBatch {
  const record = usageRecordSchema.parse(content);
  return { boot, from: record.seq, to: record.seq, records: [record] };
}

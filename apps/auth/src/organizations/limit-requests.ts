import { z } from 'zod';
import { LIMITS } from '../keys/key-requests.js';

/** Limits of an organization or a project as a PUT sets them: the fields it names; null takes one away. */
export const limitsRequestSchema = z.strictObject({
  rpm: LIMITS.rpm.nullable().optional(),
  tpm: LIMITS.tpm.nullable().optional(),
  concurrency: LIMITS.concurrency.nullable().optional(),
});

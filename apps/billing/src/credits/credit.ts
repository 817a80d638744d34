import { createHash } from 'node:crypto';
import { MoneyError, parseUsd, type PicoUsd } from '@sluice/primitives/money';
import { z } from 'zod';

/** An amount of money as a client writes it: a decimal text in USD above zero, as pico-USD. */
const amount = z.string().transform((text, context): PicoUsd => {
  try {
    const pico = parseUsd(text);
    if (pico > 0n) return pico;
    context.addIssue({ code: 'custom', message: 'must be above zero' });
  } catch (error) {
    if (!(error instanceof MoneyError)) throw error;
    context.addIssue({ code: 'custom', message: 'must be an amount in USD as a text, like "25.00"' });
  }
  return z.NEVER;
});

const line = (length: number) =>
  z
    .string()
    .min(1)
    .max(length)
    .regex(/^[^\0]*$/);

/** Body of `POST /api/operator/credits`. */
export const grantCreditSchema = z.strictObject({ organizationId: line(128), amount, reason: line(500) });
export type GrantCredit = z.infer<typeof grantCreditSchema>;

export const idempotencyKeySchema = z
  .string({ error: 'is required: choose one per grant, and repeat it when you try again' })
  .regex(/^[\x21-\x7e]{1,200}$/, 'must be 1 to 200 visible ASCII characters');

/** What an idempotency key was used for: the same grant, however its amount was written. */
export const creditHash = (grant: GrantCredit): string =>
  createHash('sha256')
    .update(JSON.stringify([grant.organizationId, String(grant.amount), grant.reason]))
    .digest('base64url');

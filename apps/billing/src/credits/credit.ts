import { createHash } from 'node:crypto';
import { MoneyError, parseUsd, type PicoUsd } from '@sluice/primitives/money';
import { z } from 'zod';

/** An amount of money as a client writes it: a decimal text in USD, as pico-USD. */
export const amountSchema = (sign: 'above zero' | 'not zero') =>
  z.string().transform((text, context): PicoUsd => {
    try {
      const negative = sign === 'not zero' && text.startsWith('-');
      const pico = parseUsd(negative ? text.slice(1) : text);
      if (pico > 0n) return negative ? -pico : pico;
      context.addIssue({ code: 'custom', message: `must be ${sign}` });
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
const fields = { organizationId: line(128), reason: line(500) };

/** Body of `POST /api/operator/credits`; `expiresAt` becomes milliseconds since the Unix epoch, absent = never. */
export const grantCreditSchema = z.strictObject({
  ...fields,
  amount: amountSchema('above zero'),
  expiresAt: z.iso
    .datetime({ offset: true })
    .transform((text) => Date.parse(text))
    .optional(),
});
export type GrantCredit = z.infer<typeof grantCreditSchema>;

/** Body of `POST /api/operator/refunds`; with `transactionId` it is taken from the credit that came in that transaction. */
export const refundSchema = z.strictObject({
  ...fields,
  amount: amountSchema('above zero'),
  transactionId: z.uuid().toLowerCase().optional(),
});
export type Refund = z.infer<typeof refundSchema>;

/** Body of `POST /api/operator/adjustments`: more credit, or less where the amount is negative. */
export const adjustmentSchema = z.strictObject({ ...fields, amount: amountSchema('not zero') });
export type Adjustment = z.infer<typeof adjustmentSchema>;

/** What an operator does to an organization's credit. */
export type CreditCommand =
  | (GrantCredit & { readonly kind: 'credit' })
  | (Refund & { readonly kind: 'refund' })
  | (Adjustment & { readonly kind: 'adjustment' });

export const idempotencyKeySchema = z
  .string({ error: 'is required: choose one per movement of money, and repeat it when you try again' })
  .regex(/^[\x21-\x7e]{1,200}$/, 'must be 1 to 200 visible ASCII characters');

/** What an idempotency key was used for: the same command, however its amount and times were written. */
export function creditHash(command: CreditCommand): string {
  const said: unknown[] = [command.organizationId, String(command.amount), command.reason];
  if (command.kind === 'credit' && command.expiresAt !== undefined) said.push(command.expiresAt);
  if (command.kind === 'refund' && command.transactionId !== undefined) said.push(command.transactionId);
  return createHash('sha256').update(JSON.stringify(said)).digest('base64url');
}

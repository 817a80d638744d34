import { formatUsd, type PicoUsd } from '@sluice/primitives/money';
import { z } from 'zod';
import { amountSchema } from '../credits/credit.js';
import { paidAmountSchema } from './payment.js';

/** `autoRecharge` of the settings: below `threshold`, `amount` is paid by what was saved at the provider. */
export const autoRechargeSchema = z.strictObject({
  threshold: amountSchema('above zero'),
  amount: paidAmountSchema,
  enabled: z.boolean(),
});
export type AutoRecharge = z.infer<typeof autoRechargeSchema>;

export const shownRecharge = ({ threshold, amount, enabled }: AutoRecharge) => ({
  threshold: formatUsd(threshold),
  amount: formatUsd(amount),
  enabled,
});

/** Between two recharges: what spends faster than this is somebody's mistake or somebody else's key. */
const COOLDOWN_MS = 60_000;
const FIRST_BACKOFF_MS = 15 * 60_000;
const LONGEST_BACKOFF_MS = 24 * 3_600_000;

/** Milliseconds until the next recharge may be tried. @param failures in a row, up to now */
export const pauseAfter = (failures: number): number =>
  failures === 0 ? COOLDOWN_MS : Math.min(FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 30), LONGEST_BACKOFF_MS);

export const isDue = ({ enabled, threshold }: AutoRecharge, available: PicoUsd): boolean =>
  enabled && available < threshold;

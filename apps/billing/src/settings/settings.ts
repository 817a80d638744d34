import { formatUsd, type PicoUsd } from '@sluice/primitives/money';
import { z } from 'zod';
import { amountSchema } from '../credits/credit.js';
import { autoRechargeSchema, shownRecharge, type AutoRecharge } from '../payments/recharge.js';

/** Body of `PUT /api/billing/settings`: what is left out stays as it is, null switches off. */
export const settingsChangeSchema = z.strictObject({
  /** `balance.low` is told when the balance falls below it. */
  lowBalanceThreshold: amountSchema('above zero').nullable().optional(),
  autoRecharge: autoRechargeSchema.nullable().optional(),
});
export type SettingsChange = z.infer<typeof settingsChangeSchema>;

/** pico-USD. */
export interface Settings {
  readonly lowBelow: PicoUsd | null;
  readonly autoRecharge: AutoRecharge | null;
}

/** As they are shown, in the settings and in the status. */
export const shownSettings = ({ lowBelow, autoRecharge }: Settings) => ({
  lowBalanceThreshold: lowBelow === null ? null : formatUsd(lowBelow),
  autoRecharge: autoRecharge && shownRecharge(autoRecharge),
});

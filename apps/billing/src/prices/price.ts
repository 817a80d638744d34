import { priceSchema } from '@sluice/contracts/billing';
import { z } from 'zod';

const fields = {
  model: z
    .string()
    .min(1)
    .max(128)
    .regex(/^[^\0]*$/),
  /**
   * pico-USD per token, which is micro-USD per million tokens: `"150000"` is 0.15 USD per million. `audioSecond`: pico-USD per
   * second of audio, a multiple of 1,000: `"100000000"` is 0.006 USD per minute.
   */
  prices: z.strictObject(priceSchema.shape.prices.shape),
};

/** Body of `POST /api/operator/prices`; without `effectiveFrom` the price is in force at once. */
export const setPriceSchema = z.strictObject({ ...fields, effectiveFrom: z.iso.datetime({ offset: true }).optional() });

/** The price list of an installation; a model may be in it several times, each time from another moment on. */
export const priceFileSchema = z.strictObject({ prices: z.array(setPriceSchema).max(10_000) });

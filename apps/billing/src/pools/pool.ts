import { parseUsd, type PicoUsd } from '@sluice/primitives/money';
import { z } from 'zod';

/** Seats of one hour: each is a row, and reserving looks through them. */
const MOST_SEATS = 1_000;
const HOURS = 24;
const hoursFrom = (first: number, count: number) => Array.from({ length: count }, (_, n) => first + n);

export interface Block {
  readonly name: string;
  /** UTC hours of the day, ascending. */
  readonly hours: readonly number[];
}

/** Eight hours each, where an operator says nothing else. */
const DEFAULT_BLOCKS: readonly Block[] = [
  { name: 'asia', hours: hoursFrom(0, 8) },
  { name: 'europe', hours: hoursFrom(8, 8) },
  { name: 'americas', hours: hoursFrom(16, 8) },
];

/** Also the first part of the name of a subscription's key. */
const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and -, not beginning with -');
const seats = z.int().min(0).max(MOST_SEATS);
const unique = (values: readonly unknown[]) => new Set(values).size === values.length;

const blockSchema = z.strictObject({
  name,
  hours: z
    .array(
      z
        .int()
        .min(0)
        .max(HOURS - 1),
    )
    .min(1)
    .max(HOURS)
    .refine(unique, 'an hour is in it twice')
    .transform((hours) => hours.toSorted((one, other) => one - other)),
});

/** Body of `POST /api/operator/pools`. */
export const makePoolSchema = z
  .strictObject({
    name,
    models: z
      .array(
        z
          .string()
          .min(1)
          .max(128)
          .regex(/^[^\0]*$/),
      )
      .min(1)
      .max(100)
      .refine(unique, 'a model is in it twice'),
    /** Decimal USD for one seat in one hour of one day. */
    pricePerBlockHour: z
      .string()
      .regex(/^\d{1,9}(\.\d{1,12})?$/, 'must be an amount in USD as a text, like "1.50"')
      .transform((text): PicoUsd => parseUsd(text))
      .refine((price) => price > 0n, 'must be above zero'),
    /** Seats: the same in every hour, or for each UTC hour of the day, from 0 to 23. */
    capacity: z.union([seats, z.array(seats).length(HOURS)], {
      error: `must be a number of seats from 0 to ${MOST_SEATS}, or ${HOURS} of them`,
    }),
    blocks: z
      .array(blockSchema)
      .min(1)
      .max(HOURS)
      .refine((blocks) => unique(blocks.map((block) => block.name)), 'a name is there twice')
      .optional(),
  })
  .transform(({ capacity, blocks = [...DEFAULT_BLOCKS], ...pool }) => ({
    ...pool,
    capacity: typeof capacity === 'number' ? Array.from({ length: HOURS }, () => capacity) : capacity,
    blocks,
  }))
  .refine(({ blocks, capacity }) => blocks.every(({ hours }) => hours.every((hour) => capacity[hour]! > 0)), {
    path: ['capacity'],
    error: 'has no seat in an hour of a block',
  });
export type MakePool = z.infer<typeof makePoolSchema>;

/** What is for sale: it does not change, once it is made. */
export interface Pool extends MakePool {
  readonly id: string;
  readonly createdAt: number;
}

/** The hours of these blocks of a pool, each once, ascending; undefined where it has no block of one of the names. */
export function hoursOf(pool: Pool, names: readonly string[]): readonly number[] | undefined {
  const blocks = names.map((wanted) => pool.blocks.find((block) => block.name === wanted));
  if (blocks.includes(undefined)) return undefined;
  return [...new Set(blocks.flatMap((block) => block!.hours))].sort((one, other) => one - other);
}

/** Two ways to say the same? */
export const isSamePool = (one: MakePool, other: MakePool): boolean => said(one) === said(other);

const said = ({ name: called, models, pricePerBlockHour, capacity, blocks }: MakePool): string =>
  JSON.stringify([
    called,
    models,
    String(pricePerBlockHour),
    capacity,
    blocks.map((block) => [block.name, block.hours]),
  ]);

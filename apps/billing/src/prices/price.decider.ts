import { Rejected } from '@sluice/contracts/errors';
import type { UnitPrices } from '@sluice/primitives/money';

/** An immutable version of a model's price, in pico-USD per token and per millisecond of audio; times in ms since the Unix epoch. */
export interface PriceVersion {
  readonly version: string;
  readonly model: string;
  readonly prices: UnitPrices;
  readonly effectiveFrom: number;
  /** Who set it: the file of the installation, or an operator. */
  readonly source: 'file' | 'operator';
}

export interface SetPrice {
  readonly model: string;
  readonly prices: UnitPrices;
  /** Absent = from now on. */
  readonly effectiveFrom?: number | undefined;
  readonly source: PriceVersion['source'];
}

/**
 * Whether a command needs a new version: an unchanged price makes none, so it can be repeated, and a file can be read at
 * every start. A file that says what it said before changes nothing either: an operator may have set another price since.
 * @param versions all versions of this model, in any order
 * @returns the version that already says so, or undefined where a new one is needed
 * @throws Rejected `invalid_request` for a begin in the past, `conflict` where another version begins at the same time
 */
export function alreadySet(
  versions: readonly PriceVersion[],
  command: SetPrice,
  now: number,
): PriceVersion | undefined {
  const at = command.effectiveFrom ?? now;
  const upTo = versions.filter((v) => v.effectiveFrom <= at).sort((a, b) => b.effectiveFrom - a.effectiveFrom);
  const decisive = command.source === 'file' ? upTo.find((v) => v.source === 'file') : upTo[0];
  if (decisive && samePrices(decisive.prices, command.prices)) return decisive;
  if (at < now) {
    // Requests were admitted at what was in force then; nobody may change that afterwards.
    throw new Rejected('invalid_request', 'effectiveFrom: is in the past.', { param: 'effectiveFrom' });
  }
  if (upTo[0]?.effectiveFrom === at) {
    throw new Rejected('conflict', 'Another price of this model begins at the same time.', { param: 'effectiveFrom' });
  }
  return undefined;
}

/**
 * What a price list that is read now asks for: per model the entry that has begun last, as from now on, and those that
 * begin later. Entries that were overtaken are history: read again at a start, they would bring the old price back.
 */
export function duePrices(entries: readonly Omit<SetPrice, 'source'>[], now: number): SetPrice[] {
  return Array.from(Map.groupBy(entries, ({ model }) => model).values()).flatMap((ofModel) => {
    const begin = ({ effectiveFrom }: Omit<SetPrice, 'source'>) => effectiveFrom ?? -Infinity;
    const sorted = ofModel.toSorted((a, b) => (begin(a) === begin(b) ? 0 : begin(a) - begin(b)));
    const inForce = sorted.findLast((entry) => begin(entry) <= now);
    const later = sorted.filter((entry) => begin(entry) > now);
    return [...(inForce ? [{ ...inForce, effectiveFrom: undefined }] : []), ...later].map((entry) => ({
      ...entry,
      source: 'file' as const,
    }));
  });
}

export const samePrices = (a: UnitPrices, b: UnitPrices): boolean =>
  a.input === b.input &&
  a.cachedInput === b.cachedInput &&
  a.output === b.output &&
  (a.audioMs ?? 0n) === (b.audioMs ?? 0n);

/** Chance that can be had again: the same seed, the same choices. */
export interface Random {
  readonly seed: number;
  /** From 0 to below 1. */
  next(): number;
  between(min: number, max: number): number;
  pick<T>(from: readonly T[]): T;
  /** Another source that does not disturb this one; the same name gives the same source. */
  fork(name: string): Random;
}

/** mulberry32: small, and even enough for a schedule. @param seed 32 bits */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    seed,
    next,
    between: (min, max) => min + next() * (max - min),
    pick: (from) => from[Math.floor(next() * from.length)]!,
    fork: (name) => randomFrom(Buffer.from(name).reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193), seed)),
  };
}

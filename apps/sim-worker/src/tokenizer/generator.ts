import { FULL_STOP } from './vocabulary.js';

/** mulberry32: a small generator of 32-bit numbers; enough to choose words, no more. */
export function pseudoRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  };
}

const SHORTEST_ANSWER = 16;
const LONGEST_ANSWER = 256;

/** How many tokens the model would say to this before it ends by itself. */
export const naturalLength = (seed: number): number =>
  SHORTEST_ANSWER + (pseudoRandom(~seed)() % (LONGEST_ANSWER - SHORTEST_ANSWER + 1));

/** An endless answer as places in VOCABULARY: sentences of 5 to 16 words. The same seed says the same. */
export function* generateTokens(seed: number): Generator<number, never> {
  const next = pseudoRandom(seed);
  for (;;) {
    for (let words = 5 + (next() % 12); words > 0; words--) yield next() % FULL_STOP;
    yield FULL_STOP;
  }
}

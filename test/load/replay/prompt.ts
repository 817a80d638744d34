import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';

/** Each is one token of the worker's tokenizer with the blank before it, wherever it stands. */
const WORDS =
  `about above after again against air along also among another answer around ask away back because before began
begin being below between both boy call came cause change city close come cut day did different does done door down draw
each early earth end enough even ever every example eye face family far farm father feel few field find fire first follow
food foot form found four friend full game gave girl give good great green ground group grow half hand hard head hear`
    .split(/\s+/)
    .map((word) => ` ${word}`);

/**
 * A prompt of exactly `tokens` tokens. Prompts of other runs or rows begin with other words, so that none is found in a
 * prefix cache: then the trace alone says what a request has to cost.
 * @param run 32 random bits
 */
export function promptOf(tokens: number, run: number, row: number): string {
  const next = random((run ^ Math.imul(row + 1, 0x9e3779b1)) >>> 0);
  const text = Array.from({ length: tokens }, () => WORDS[next() % WORDS.length]!).join('');
  const counted = countTokens(text);
  if (counted !== tokens) throw new Error(`a prompt of ${tokens} tokens was wanted and has ${counted}`);
  return text;
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  };
}

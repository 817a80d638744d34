import { pseudoRandom } from '../tokenizer/generator.js';

/** A unit vector that depends on the seed alone. */
export function embeddingOf(seed: number, dimensions: number): Float32Array {
  const next = pseudoRandom(seed);
  const vector = Float32Array.from({ length: dimensions }, () => next() / 2 ** 31 - 1);
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}

/** OpenAI's `encoding_format`: numbers, or the base64 of little-endian 32-bit floats. */
export const encodeVector = (vector: Float32Array, format: 'float' | 'base64'): number[] | string =>
  format === 'float'
    ? [...vector]
    : Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64');

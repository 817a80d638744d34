import { FULL_STOP, VOCABULARY } from '../tokenizer/vocabulary.js';

const DEEPEST = 4;

/** JSON text that fits a schema as far as its types, enumerations and properties say. The same numbers give the same. */
export function inputFor(schema: unknown, next: () => number): string {
  const text = JSON.stringify(valueOf({ type: 'object', ...recordOf(schema) }, next, 0));
  // Only ASCII, so that no token ends within a character.
  return text.replaceAll(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function valueOf(schema: Record<string, unknown>, next: () => number, depth: number): unknown {
  const { enum: choices, type, properties, items } = schema;
  if ('const' in schema) return schema['const'];
  if (Array.isArray(choices) && choices.length > 0) return choices[next() % choices.length];
  const kind = (Array.isArray(type) ? type[0] : type) ?? (properties === undefined ? 'string' : 'object');
  if (kind === 'integer') return next() % 100;
  if (kind === 'number') return (next() % 1_000) / 10;
  if (kind === 'boolean') return next() % 2 === 1;
  if (kind === 'null') return null;
  if (kind === 'array') return depth < DEEPEST ? [valueOf(recordOf(items), next, depth + 1)] : [];
  if (kind !== 'object') return wordsOf(next);
  if (depth >= DEEPEST) return {};
  return Object.fromEntries(
    Object.entries(recordOf(properties)).map(([name, one]) => [name, valueOf(recordOf(one), next, depth + 1)]),
  );
}

const wordsOf = (next: () => number): string =>
  Array.from({ length: 1 + (next() % 3) }, () => VOCABULARY[next() % FULL_STOP])
    .join('')
    .trim();

const recordOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};

/** Has a number that a float may not hold: looked for first, as a reviver is slow. */
const LONG_NUMBER = /\d{16}/;
/** A conversation has fewer. Beyond, a body of zeros would keep everybody waiting for seconds; it is read as others read it. */
const MOST_COMMAS = 100_000;

type Reviver = (this: unknown, key: string, value: unknown, context: { readonly source: string }) => unknown;
/** Newer than the declarations of the standard library. */
const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };

/**
 * JSON in which whole numbers stay what they are when it is written again: inputs of tools hold ids, and one of 64 bits is
 * another one as a float. @throws SyntaxError
 */
export const parseExact = (text: string): unknown =>
  LONG_NUMBER.test(text) && commasOf(text) <= MOST_COMMAS
    ? JSON.parse(text, exact as (key: string, value: unknown) => unknown)
    : JSON.parse(text);

const exact: Reviver = (_key, value, { source }) =>
  Number.isInteger(value) && !Number.isSafeInteger(value) ? rawJSON(source) : value;

/** Those in texts count too; not counted to the end where there are too many. */
function commasOf(text: string): number {
  let commas = 0;
  for (let at = text.indexOf(','); at !== -1 && commas <= MOST_COMMAS; at = text.indexOf(',', at + 1)) commas++;
  return commas;
}

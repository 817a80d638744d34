/** Characters tokenized in one go. Some milliseconds at most. */
const CHUNK = 8_192;
/**
 * Merging is quadratic in the length of a piece. Longer runs of letters, signs or blanks are cut, which counts a few
 * tokens more for text that nobody writes.
 */
const LONGEST_RUN = 1_024;

/**
 * Cuts a text into pieces that tokenize to the same tokens as the whole: before a blank between two ASCII letters,
 * where o200k_base begins a token whatever stands around. Only text without such a place in CHUNK characters, or with
 * a run longer than LONGEST_RUN, is cut elsewhere.
 */
export function* chunksOf(text: string): Generator<string> {
  let start = 0;
  while (start < text.length) {
    const end = start + CHUNK >= text.length ? text.length : cutBefore(text, start, start + CHUNK);
    yield* shortRuns(text.slice(start, end));
    start = end;
  }
}

function cutBefore(text: string, start: number, limit: number): number {
  for (let at = limit; at > start + 1; at--) {
    if (text.charCodeAt(at) === 0x20 && isLetter(text.charCodeAt(at - 1)) && isLetter(text.charCodeAt(at + 1))) {
      return at;
    }
  }
  // Never between the halves of a surrogate pair.
  return (text.charCodeAt(limit - 1) & 0xfc00) === 0xd800 ? limit - 1 : limit;
}

const isLetter = (code: number): boolean => (code >= 97 && code <= 122) || (code >= 65 && code <= 90);

function* shortRuns(chunk: string): Generator<string> {
  let from = 0;
  for (const run of chunk.matchAll(/[\p{L}\p{M}]+|[^\s\p{L}\p{N}]+|\s+/gu)) {
    if (run[0].length <= LONGEST_RUN) continue;
    for (let at = run.index + LONGEST_RUN; at < run.index + run[0].length; at += LONGEST_RUN) {
      if ((chunk.charCodeAt(at - 1) & 0xfc00) === 0xd800) at--;
      yield chunk.slice(from, at);
      from = at;
    }
  }
  if (from < chunk.length) yield chunk.slice(from);
}

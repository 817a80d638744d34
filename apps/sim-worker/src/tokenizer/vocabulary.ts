/**
 * What the simulated model says. Each entry is one token of o200k_base, and so is it in every text made of them: the
 * tokenizer splits at ` word` and at `.` before it looks anything up, so entries never merge with each other.
 */
const WORDS = `the of and to in is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so up said what its about
than into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many before must through years where much your way well down should because each just those
people how too little state good very make world still see own work men day get here between both life being under
three never know same another while last might us great old year off come since against go came right used take house
small large water light river field stone garden window paper music letter story table color number letter morning`
  .split(/\s+/)
  .filter((word, index, words) => words.indexOf(word) === index);

export const FULL_STOP = WORDS.length;

/** The texts of all tokens that the generator uses; a token is named by its place here. */
export const VOCABULARY: readonly string[] = [...WORDS.map((word) => ` ${word}`), '.'];

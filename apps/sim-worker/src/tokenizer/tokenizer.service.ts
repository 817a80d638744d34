import { decode, encode } from 'gpt-tokenizer/encoding/o200k_base';
import { chunksOf } from '@sluice/primitives/token-chunks';
import { VOCABULARY } from './vocabulary.js';

/** `<|endoftext|>` in a prompt is text like any other. */
const AS_TEXT = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };
/** Milliseconds after which others get their turn. */
const TURN_MS = 5;
const REMEMBERED_CHARACTERS = 8_000_000;
const LONGEST_REMEMBERED = 400_000;

/** Ids of o200k_base run from 0 to one less. */
export const VOCABULARY_SIZE = 200_019;

export interface Tokenizer {
  /**
   * The tokens of `texts`, each tokenized by itself, one after the other. Stops early, with more than `limit` tokens,
   * when there are more than `limit`: a prompt that is refused anyway is not worth its time.
   */
  encode(texts: readonly string[], limit: number): Promise<Uint32Array>;
  /** A short ASCII text as the texts of its tokens. */
  split(text: string): string[];
  /** The id of each entry of VOCABULARY. */
  readonly vocabularyIds: readonly number[];
}

/** o200k_base by gpt-tokenizer, in turns that leave the event loop free, with the tokens of recent texts kept. */
export class SlicedTokenizer implements Tokenizer {
  readonly vocabularyIds = VOCABULARY.map((text) => {
    const ids = encode(text);
    if (ids.length !== 1) throw new Error(`not one token: ${JSON.stringify(text)}`);
    return ids[0]!;
  });
  /** Least recently used first. */
  private readonly memory = new Map<string, Uint32Array>();
  private characters = 0;

  split(text: string): string[] {
    return encode(text, AS_TEXT).map((id) => decode([id]));
  }

  async encode(texts: readonly string[], limit: number): Promise<Uint32Array> {
    const parts: Uint32Array[] = [];
    let total = 0;
    for (const text of texts) {
      const part = this.recall(text) ?? (await this.encodeOne(text, limit - total));
      parts.push(part);
      total += part.length;
      if (total > limit) break;
    }
    if (parts.length === 1) return parts[0]!;
    const all = new Uint32Array(total);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  private async encodeOne(text: string, limit: number): Promise<Uint32Array> {
    const ids: number[] = [];
    let turn = performance.now();
    for (const chunk of chunksOf(text)) {
      for (const id of encode(chunk, AS_TEXT)) ids.push(id);
      if (ids.length > limit) return Uint32Array.from(ids);
      if (performance.now() - turn < TURN_MS) continue;
      await new Promise((resolve) => setImmediate(resolve));
      turn = performance.now();
    }
    const tokens = Uint32Array.from(ids);
    this.remember(text, tokens);
    return tokens;
  }

  private recall(text: string): Uint32Array | undefined {
    const tokens = this.memory.get(text);
    if (tokens === undefined) return undefined;
    this.memory.delete(text);
    this.memory.set(text, tokens);
    return tokens;
  }

  private remember(text: string, tokens: Uint32Array): void {
    if (text.length > LONGEST_REMEMBERED || this.memory.has(text)) return;
    this.memory.set(text, tokens);
    this.characters += text.length;
    for (const oldest of this.memory.keys()) {
      if (this.characters <= REMEMBERED_CHARACTERS) break;
      this.memory.delete(oldest);
      this.characters -= oldest.length;
    }
  }
}

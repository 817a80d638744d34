import { hash } from 'node:crypto';

/**
 * The prefix cache of an engine: whole blocks of tokens, each known by the hash of itself and all before it, the least
 * recently used block forgotten first. Answers how much of a prompt is there; holds no tokens.
 */
export class PrefixCache {
  readonly capacity: number;
  private readonly blockTokens: number;
  /** Least recently used first. */
  private readonly blocks = new Set<string>();

  /** @param capacityTokens rounded down to whole blocks; below one block nothing is kept */
  constructor(blockTokens: number, capacityTokens: number) {
    this.blockTokens = blockTokens;
    this.capacity = Math.floor(capacityTokens / blockTokens);
  }

  get size(): number {
    return this.blocks.size;
  }

  /**
   * The chained hashes of the whole blocks of `tokens`.
   * @param seed what keeps prompts apart that may not share: the model and the salt
   * @param known the chain of a beginning of `tokens`
   */
  chain(tokens: Uint32Array, seed: string, known: readonly string[] = []): string[] {
    const chain = [...known];
    let parent = known.at(-1) ?? hash('sha256', seed, 'base64url');
    const bytes = Buffer.from(tokens.buffer, tokens.byteOffset, tokens.byteLength);
    const blockBytes = this.blockTokens * 4;
    for (let at = known.length * blockBytes; at + blockBytes <= bytes.length; at += blockBytes) {
      parent = hash('sha256', Buffer.concat([Buffer.from(parent), bytes.subarray(at, at + blockBytes)]), 'base64url');
      chain.push(parent);
    }
    return chain;
  }

  /**
   * How many tokens of a prompt of `promptTokens` with this chain are cached. Never all of them: an engine has to run
   * at least the last one to say something.
   */
  cachedTokens(chain: readonly string[], promptTokens: number): number {
    let blocks = 0;
    while (blocks < chain.length && this.blocks.has(chain[blocks]!)) blocks++;
    this.touch(chain.slice(0, blocks));
    const most = Math.floor((promptTokens - 1) / this.blockTokens);
    return Math.max(0, Math.min(blocks, most)) * this.blockTokens;
  }

  add(chain: readonly string[]): void {
    this.touch(chain);
    for (const oldest of this.blocks) {
      if (this.blocks.size <= this.capacity) break;
      this.blocks.delete(oldest);
    }
  }

  /** The tail first, so that it is forgotten before the beginning, without which it would be of no use. */
  private touch(chain: readonly string[]): void {
    for (let at = chain.length - 1; at >= 0; at--) {
      const block = chain[at]!;
      this.blocks.delete(block);
      this.blocks.add(block);
    }
  }
}

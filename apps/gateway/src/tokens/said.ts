/** Characters of an answer that are kept to be counted; of what comes behind them only the number. */
const KEPT_CHARACTERS = 1024 * 1024;
/** Under these names stands what a model generated, in answers and chunks of every dialect. */
const GENERATED = new Set(['content', 'text', 'reasoning', 'reasoning_content', 'refusal', 'arguments', 'name']);
/** Deeper is no answer. */
const MAX_DEPTH = 8;

/** What was generated of an answer whose worker has counted nothing yet. It is kept until one counts, or the request ends. */
export class Said {
  private parts: string[] = [];
  private kept = 0;
  /** Of all that was said, kept or not. */
  characters = 0;
  /** Pieces that said something: about a token each, in a stream. */
  pieces = 0;

  get texts(): readonly string[] {
    return this.parts;
  }

  /** @param choices of a completion, or the output of a response; whole or a piece */
  heard(choices: unknown): void {
    const before = this.characters;
    this.take(choices, 0);
    if (this.characters > before) this.pieces++;
  }

  add(text: string): void {
    this.characters += text.length;
    if (this.kept >= KEPT_CHARACTERS) return;
    this.parts.push(text.slice(0, KEPT_CHARACTERS - this.kept));
    this.kept += text.length;
  }

  private take(value: unknown, depth: number): void {
    if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return;
    for (const [name, part] of Object.entries(value)) {
      if (typeof part !== 'string') this.take(part, depth + 1);
      else if (GENERATED.has(name)) this.add(part);
    }
  }
}

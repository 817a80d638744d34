import { parseExact } from './exact-json.js';

/**
 * Follows the JSON text of a tool's input as it comes in pieces, and knows when the value is whole. It keeps a few numbers,
 * however long and deep the value is.
 */
export class ToolInputScan {
  private depth = 0;
  private begun = false;
  private inString = false;
  private escaped = false;

  /** An object or array that has ended. Of anything else nobody knows before the worker says so. */
  get whole(): boolean {
    return this.begun && this.depth === 0;
  }

  /** @param structure told of each bracket and comma outside of strings, with its place in `piece` */
  push(piece: string, structure?: (character: string, at: number) => void): void {
    for (let at = 0; at < piece.length; at++) {
      const character = piece[at]!;
      if (this.inString) {
        if (this.escaped) this.escaped = false;
        else if (character === '\\') this.escaped = true;
        else if (character === '"') this.inString = false;
        continue;
      }
      if (character === '"') this.inString = true;
      else if (character === '{' || character === '[') {
        this.begun = true;
        this.depth++;
      } else if (character === '}' || character === ']') this.depth--;
      else if (character !== ',') continue;
      if (character !== '"') structure?.(character, at);
    }
  }
}

/** The input of a tool as a value. Of one that was cut off (the tokens were used up), as much as is whole. */
export function toolInput(text: string): unknown {
  return parsed(text) ?? parsed(mended(text)) ?? {};
}

/** The beginning of a JSON text without the member that is not whole, its brackets closed. */
function mended(text: string): string {
  const closers: string[] = [];
  let end = 0;
  new ToolInputScan().push(text, (character, at) => {
    if (character === '{') closers.push('}');
    else if (character === '[') closers.push(']');
    else if (character !== ',') closers.pop();
    end = character === ',' ? at : at + 1;
  });
  return text.slice(0, end) + closers.toReversed().join('');
}

function parsed(text: string): unknown {
  try {
    return parseExact(text);
  } catch {
    return undefined;
  }
}

export interface StopRule {
  readonly stop: readonly string[];
  /** The stop string itself is part of the answer. */
  readonly includeStop: boolean;
  /** Stop strings that end within the first so many tokens do not count. */
  readonly minTokens: number;
}

export interface StoppedText {
  /** What each token adds to the text that is sent; its length is the number of tokens generated. */
  readonly deltas: readonly string[];
  /** The stop string that ended it, or null. */
  readonly stopReason: string | null;
}

/**
 * Applies stop strings to a text made token by token. As in vLLM the token that completes a stop string is generated
 * and counted, its text is not sent; and while stop strings are given the end of the text, as long as the longest of
 * them less one, is held back, so that nothing has to be taken back.
 */
export function applyStop(tokens: readonly string[], rule: StopRule): StoppedText {
  if (rule.stop.length === 0) return { deltas: tokens, stopReason: null };
  const longest = Math.max(...rule.stop.map((s) => s.length));
  const held = rule.includeStop ? 0 : longest - 1;
  const deltas: string[] = [];
  let text = '';
  let sent = 0;
  for (const [index, token] of tokens.entries()) {
    const before = text.length;
    text += token;
    const stopped = index + 1 > rule.minTokens ? firstStop(text, before, rule) : undefined;
    const end = stopped?.end ?? (index === tokens.length - 1 ? text.length : Math.max(sent, text.length - held));
    deltas.push(text.slice(sent, end));
    sent = Math.max(sent, end);
    if (stopped) return { deltas, stopReason: stopped.reason };
  }
  return { deltas, stopReason: null };
}

/** The earliest stop string that ends in what came after `before`. */
function firstStop(text: string, before: number, rule: StopRule): { end: number; reason: string } | undefined {
  let first: { at: number; reason: string } | undefined;
  for (const reason of rule.stop) {
    const at = text.indexOf(reason, Math.max(0, before - reason.length + 1));
    if (at >= 0 && (first === undefined || at < first.at)) first = { at, reason };
  }
  return first && { end: rule.includeStop ? first.at + first.reason.length : first.at, reason: first.reason };
}

export const SYSTEMS = ['direct', 'bare-1', 'bare-2', 'nginx', 'portkey', 'sluice'] as const;
export type SystemName = (typeof SYSTEMS)[number];

/** What the upstream counts, in tokens; `prompt` is a small one's. */
export const TOKENS = { prompt: 24, longPrompt: 25_000, answer: 16 } as const;
/** Content chunks of a stream. */
export const CHUNKS = 200;
/** A body from this size on counts as the long prompt. */
export const LONG_PROMPT_BYTES = 50_000;
const PROMPT_BYTES = 100_000;
export const MANY_KEYS = 100_000;

export const MODEL = 'demo/small-7b';
export const PATH = '/v1/chat/completions';

const KINDS = ['small', 'prompt', 'stream'] as const;
const CONNECTIONS = [1, 32, 256] as const;
const KEYS = ['1', '100k'] as const;

export interface Case {
  /** `<kind>-<connections>-<keys>` */
  readonly name: string;
  readonly kind: (typeof KINDS)[number];
  readonly connections: number;
  readonly keys: number;
  readonly body: string;
  /** The longest that an answer takes, in seconds, beyond what any answer does. */
  readonly answerSeconds: number;
  /** Of one request. */
  readonly tokens: { readonly input: number; readonly output: number };
}

/**
 * Milliseconds between two chunks of one stream, so that all together send no more than 16,000 a second: at saturation
 * chunks would run together, and their number be no measure of the work.
 */
const paceOf = (connections: number): number => Math.max(1, connections / 16);

export const CASES: readonly Case[] = KINDS.flatMap((kind) =>
  CONNECTIONS.flatMap((connections) => KEYS.map((keys) => makeCase(kind, connections, keys))),
);

/** What the goals are about. Looking up 100,000 keys first takes minutes, so many keys are for `--full`. */
export const GOAL_CASES = ['small-32-1', 'stream-32-1'] as const;
export const MAIN_CASE = 'small-32-1';
export const STREAM_CASE = 'stream-32-1';

function makeCase(kind: Case['kind'], connections: number, keys: (typeof KEYS)[number]): Case {
  const pace = paceOf(connections);
  return {
    name: `${kind}-${connections}-${keys}`,
    kind,
    connections,
    keys: keys === '1' ? 1 : MANY_KEYS,
    body: bodyOf(kind, pace),
    answerSeconds: kind === 'stream' ? Math.ceil((CHUNKS * pace * 1.5) / 1000) : 0,
    tokens: {
      input: kind === 'prompt' ? TOKENS.longPrompt : TOKENS.prompt,
      output: kind === 'stream' ? CHUNKS : TOKENS.answer,
    },
  };
}

/** What the upstream reads stands in front: the gateway changes no order, and may add at the end. */
function bodyOf(kind: Case['kind'], pace: number): string {
  const front = { model: MODEL, ...(kind === 'stream' ? { stream: true, user: `pace-${pace}` } : {}) };
  const question = 'What is the difference between a process and a thread, and when is which the better choice?';
  const content = kind === 'prompt' ? `${question} `.repeat(PROMPT_BYTES / question.length) : question;
  return JSON.stringify({
    ...front,
    max_tokens: kind === 'stream' ? CHUNKS : TOKENS.answer,
    temperature: 0.2,
    messages: [
      { role: 'system', content: 'You are a helpful assistant. Answer briefly.' },
      { role: 'user', content },
    ],
  });
}

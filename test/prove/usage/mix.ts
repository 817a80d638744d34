import { promptOf } from '../../load/replay/prompt.ts';
import type { Random } from '../runner/random.ts';

/** How an answer of each kind is asked for; which of them how often. */
const KINDS = [
  { name: 'chat stream', share: 30, path: '/v1/chat/completions', dialect: 'chat', stream: true },
  { name: 'chat', share: 14, path: '/v1/chat/completions', dialect: 'chat', stream: false },
  { name: 'completions stream', share: 12, path: '/v1/completions', dialect: 'text', stream: true },
  { name: 'completions', share: 7, path: '/v1/completions', dialect: 'text', stream: false },
  { name: 'embeddings', share: 8, path: '/v1/embeddings', dialect: 'embeddings', stream: false },
  { name: 'messages stream', share: 12, path: '/v1/messages', dialect: 'messages', stream: true },
  { name: 'messages', share: 5, path: '/v1/messages', dialect: 'messages', stream: false },
  { name: 'responses stream', share: 8, path: '/v1/responses', dialect: 'responses', stream: true },
  { name: 'responses', share: 4, path: '/v1/responses', dialect: 'responses', stream: false },
] as const;
export type Kind = (typeof KINDS)[number];

/** Of all clients; half of those that stream count events, the others milliseconds. */
const LEAVING = 0.12;
/** Short answers that are over before a count is journalled, and long ones. */
const MOST_TOKENS = [12, 48, 140];
const LONG_TOKENS = 600;
const LEAVE_WITHIN_MS = 250;

/** One request, and when its client leaves. */
export interface Order {
  readonly kind: Kind;
  readonly body: string;
  /** Which of the keys it is sent with. */
  readonly key: number;
  /** Tokens that its prompt has. */
  readonly input: number;
  readonly leaveAfter: { readonly pieces: number } | { readonly ms: number } | undefined;
}

/** The order number `index` of a run, by chance alone. */
export function orderOf(index: number, run: number, models: readonly string[], keys: number, random: Random): Order {
  const kind = kindOf(random);
  const input = Math.floor(random.between(8, 60));
  const most = Math.floor(random.between(1, random.pick(MOST_TOKENS)));
  return {
    kind,
    body: JSON.stringify(bodyOf(kind, random.pick(models), promptOf(input, run, index), most, random)),
    key: Math.floor(random.between(0, keys)),
    input,
    leaveAfter: leaving(kind, most, random),
  };
}

/** One that is surely in the middle when something is killed: a stream that lasts. */
export function longOrderOf(index: number, run: number, models: readonly string[], random: Random): Order {
  const [kind] = KINDS;
  const input = 20;
  const body = bodyOf(kind, random.pick(models), promptOf(input, run, index), LONG_TOKENS, random);
  return { kind, body: JSON.stringify(body), key: 0, input, leaveAfter: undefined };
}

function kindOf(random: Random): Kind {
  let at = random.between(
    0,
    KINDS.reduce((sum, { share }) => sum + share, 0),
  );
  return KINDS.find(({ share }) => (at -= share) < 0) ?? KINDS[0];
}

function bodyOf({ dialect, stream }: Kind, model: string, prompt: string, most: number, random: Random): object {
  const exactly = { max_tokens: most, min_tokens: most, ignore_eos: true };
  const messages = [{ role: 'user', content: prompt }];
  // Who does not ask for usage gets none, and is metered all the same.
  const wish = random.pick([
    {},
    { stream_options: { include_usage: true } },
    { stream_options: { include_usage: true, continuous_usage_stats: true } },
  ]);
  const options = { stream, ...(stream ? wish : {}) };
  switch (dialect) {
    case 'chat':
      return { model, messages, ...exactly, ...options };
    case 'text':
      return { model, prompt, ...exactly, ...options };
    case 'embeddings':
      return { model, input: prompt };
    case 'messages':
      return { model, messages, ...exactly, stream };
    case 'responses':
      return { model, input: prompt, max_output_tokens: most, stream };
  }
}

function leaving({ stream }: Kind, most: number, random: Random): Order['leaveAfter'] {
  if (random.next() >= LEAVING) return undefined;
  if (stream && random.next() < 0.5) return { pieces: Math.ceil(random.between(0, most)) };
  return { ms: random.between(0, LEAVE_WITHIN_MS) };
}

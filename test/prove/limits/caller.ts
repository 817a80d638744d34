import type { Gateway } from '../revocation/cluster.ts';
import type { PlannedKey } from './plan.ts';

export interface IssuedKey extends PlannedKey {
  readonly secret: string;
}

/**
 * One request. Its prompt is a list of token ids, of which the estimate counts each as one, and the answer has exactly as
 * many tokens as it may have: so what is charged at admission is what it takes, and no correction moves a window.
 */
export interface Shape {
  readonly promptTokens: number;
  readonly answerTokens: number;
  readonly stream: boolean;
}

export const tokensOf = ({ promptTokens, answerTokens }: Shape): number => promptTokens + answerTokens;

export interface Refusal {
  readonly of: 'key' | 'project' | 'organization';
  readonly by: 'requests' | 'tokens' | 'concurrency';
}

/**
 * What a client knows of one request. Times are of the machine's wall clock, milliseconds, which is Redis' clock too; cut
 * off to whole ones, so that what is told as `t` happened before `t + 1`.
 */
export interface Call {
  readonly key: IssuedKey;
  readonly gateway: number;
  readonly tokens: number;
  readonly sentAt: number;
  /** When the head of the answer was there. */
  headAt: number | undefined;
  /** When nothing more could come. */
  endAt: number | undefined;
  /** Undefined: no answer. */
  status: number | undefined;
  /** The answer came to its end. */
  whole: boolean;
  /** It never reached a gateway. */
  unsent: boolean;
  headers: Readonly<Record<string, string>>;
  refusal: Refusal | undefined;
  degraded: boolean;
  text: string;
}

export interface Asked {
  readonly call: Call;
  /** The head of the answer, or the end without one. */
  readonly head: Promise<Call>;
  readonly end: Promise<Call>;
}

const MODEL = 'demo/small-7b';
/** As much of an answer as is of interest. */
const KEPT_CHARACTERS = 4_096;

/** A text completion of that shape. Never rejects. */
export function ask(gateway: Gateway, key: IssuedKey, shape: Shape, signal?: AbortSignal): Asked {
  const { promptTokens, answerTokens, stream } = shape;
  const body = {
    model: MODEL,
    prompt: Array.from({ length: promptTokens }, (_, i) => 1_000 + i),
    max_tokens: answerTokens,
    min_tokens: answerTokens,
    ignore_eos: true,
    stream,
  };
  return post(gateway, key, '/v1/completions', body, tokensOf(shape), signal);
}

/** @param tokens what it will be charged, where the caller knows */
export function post(
  gateway: Gateway,
  key: IssuedKey,
  path: string,
  body: object,
  tokens = 0,
  signal?: AbortSignal,
): Asked {
  const call: Call = {
    key,
    gateway: gateway.index,
    tokens,
    sentAt: Date.now(),
    headAt: undefined,
    endAt: undefined,
    status: undefined,
    whole: false,
    unsent: false,
    headers: {},
    refusal: undefined,
    degraded: false,
    text: '',
  };
  const head = Promise.withResolvers<Call>();
  const end = run(gateway, call, path, body, () => head.resolve(call), signal).then(() => {
    call.endAt = Date.now();
    head.resolve(call);
    return call;
  });
  return { call, head: head.promise, end };
}

async function run(
  { http }: Gateway,
  call: Call,
  path: string,
  body: object,
  heard: () => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    const response = await http.request({
      method: 'POST',
      path,
      headers: { authorization: `Bearer ${call.key.secret}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    });
    call.headAt = Date.now();
    call.status = response.statusCode;
    call.headers = response.headers as Record<string, string>;
    call.degraded = call.headers['x-sluice-degraded'] === 'limits';
    if (call.status === 200) heard();
    for await (const chunk of response.body as AsyncIterable<Buffer>)
      if (call.text.length < KEPT_CHARACTERS) call.text += chunk.toString('utf8');
    call.whole = true;
    if (call.status === 429) call.refusal = refusalIn(call.text);
  } catch (error) {
    call.unsent = call.status === undefined && (error as NodeJS.ErrnoException).code === 'ECONNREFUSED';
  }
}

/** Whose limit it was, as the sentence says it. */
export function refusalIn(text: string): Refusal | undefined {
  const of = /[Tt]his (key|project|organization)(?:'s limit| are in flight)/.exec(text)?.[1] as
    | Refusal['of']
    | undefined;
  if (of === undefined) return undefined;
  if (text.includes('are in flight')) return { of, by: 'concurrency' };
  return { of, by: text.includes('requests per minute') ? 'requests' : 'tokens' };
}

// Whether an answer is one that Sluice may give.
import { ERRORS, inAnthropic, type ErrorCode } from '@sluice/contracts/errors';
import type { Heard } from './client.ts';
import type { Case } from './case.ts';
import { dataOf } from './stream.ts';

/** What only a worker's fault explains. */
const WORKERS_FAULT = new Set(['worker_error', 'unavailable', 'timeout', 'queue_full']);
const PREFIX = /^(?:https?:\/\/[^/]*)?\/(?:inference\/v1|v1|w\/[^/]+\/[^/]+\/v1)/.source;
const MESSAGES = new RegExp(`${PREFIX}/messages(?:[/?]|$)`);
/** Both families of clients call it; Anthropic's say which they are with a header. */
const MODELS = new RegExp(`${PREFIX}/models(?:[/?]|$)`);
/** Of other methods nothing is routed by its path. */
const ROUTED = new Set(['GET', 'POST', 'PUT', 'PATCH', 'DELETE']);
const ANTHROPIC_TYPES = new Map(
  (Object.keys(ERRORS) as ErrorCode[]).map((code) => [`${inAnthropic(code).status} ${inAnthropic(code).type}`, code]),
);

/** What is wrong with it; undefined: nothing. */
export function judge(one: Case, heard: Heard): string | undefined {
  const { kind, sending, method } = one;
  if (heard.hung) return 'no answer, and the connection stays open';
  if (heard.status === undefined) {
    // Who leaves hears nothing; and what came of a half-sent request is no request.
    return sending.leaving ? undefined : 'the connection was closed without an answer';
  }
  if (heard.status < 400) return kind === 'worker' ? judgeGood(one, heard) : undefined;
  if (sending.leaving && !heard.whole) return undefined;
  if (method === 'HEAD') return heard.status >= 500 && heard.status !== 501 ? `status ${heard.status}` : undefined;
  return judgeRefusal(one, heard);
}

function judgeRefusal(one: Case, { status, headers, body, whole }: Heard): string | undefined {
  const text = body.toString('utf8');
  if (!whole) return `a refusal that is not whole: ${text.slice(0, 200)}`;
  if (!headers.has('x-request-id')) return `status ${status} without x-request-id: ${text.slice(0, 200)}`;
  const said = jsonOf(text) as Said | undefined;
  const { error } = said ?? {};
  if (typeof error !== 'object' || error === null) {
    // A worker's own refusal goes out as the worker said it, as long as it is JSON.
    const workers = one.script !== undefined && status! < 500 && typeof said === 'object' && said !== null;
    return workers ? undefined : `status ${status} in no dialect: ${text.slice(0, 200)}`;
  }
  const wrong = wrongDialect(one, said!);
  if (wrong !== undefined) return `status ${status} ${wrong}: ${text.slice(0, 200)}`;
  const anthropic = inAnthropicAlone(said!);
  const code = String(anthropic ? ANTHROPIC_TYPES.get(`${status} ${String(error.type)}`) : error.code);
  if (code === 'internal_error' || status === 500) return `an error of our own: ${text.slice(0, 200)}`;
  if (code === 'not_implemented') return undefined;
  if (code === 'insufficient_quota') return 'the credit is gone';
  const broken = one.script !== undefined && one.script.says === undefined;
  if (status! >= 500 && !broken) return `status ${status} ${code}, and the worker is sound`;
  if (one.kind === 'worker' && !broken) return `a sound exchange was refused: ${status} ${text.slice(0, 200)}`;
  const own = code in ERRORS;
  if (status! >= 500 && (!own || !WORKERS_FAULT.has(code))) return `status ${status} with code ${code}`;
  return own || one.script !== undefined || anthropic ? undefined : `status ${status} with code ${code}`;
}

interface Said {
  readonly type?: unknown;
  readonly error?: { readonly code?: unknown; readonly type?: unknown };
}

/** What has no path to tell the dialect by is refused in all of them at once. */
const inAnthropicAlone = ({ type, error }: Said): boolean => type === 'error' && error?.code === undefined;

function wrongDialect({ kind, path, method, sending, script }: Case, said: Said): string | undefined {
  // Node takes more than one blank before the version.
  const target = path.trimEnd();
  const messages = MESSAGES.test(target);
  const models = MODELS.test(target) && hasField(sending.bytes, 'anthropic-version');
  // A worker's own refusal goes out as the worker said it.
  if (inAnthropicAlone(said) && !messages && !models && script === undefined) return "in Anthropic's dialect";
  // Whose bytes were damaged may have asked for something else.
  const asked = kind !== 'raw' && ((messages && ROUTED.has(method)) || (models && method === 'GET'));
  return asked && said.type !== 'error' ? "in another dialect than Anthropic's" : undefined;
}

/** A request has a header of that name, in small letters. */
const hasField = (request: Buffer, name: string): boolean =>
  request
    .toString('latin1', 0, Math.max(0, request.indexOf('\r\n\r\n')))
    .split('\r\n')
    .slice(1)
    .some((line) => line.slice(0, line.indexOf(':')).toLowerCase() === name);

function judgeGood(one: Case, { headers, body, whole }: Heard): string | undefined {
  const text = body.toString('utf8');
  if (!headers.has('x-request-id')) return 'an answer without x-request-id';
  const streamed = headers.get('content-type')?.startsWith('text/event-stream') === true;
  const { says } = one.script!;
  if (says === undefined) {
    if (streamed)
      return endsWell(one, text) || !whole || failedIn(text)
        ? undefined
        : `a stream without its end: ${text.slice(-200)}`;
    const answer = jsonOf(text);
    return typeof answer === 'object' && answer !== null && !Array.isArray(answer)
      ? undefined
      : `an answer that is no object: ${text.slice(0, 200)}`;
  }
  if (!whole) return `a sound answer broke off: ${text.slice(-200)}`;
  if (one.path.endsWith('/count_tokens')) return text === '{"input_tokens":7}' ? undefined : `counted: ${text}`;
  if (streamed !== one.asksStream) return `stream ${one.asksStream}, and the answer is ${headers.get('content-type')}`;
  if (streamed && !endsWell(one, text)) return `a stream without its end: ${text.slice(-200)}`;
  const said = streamed ? dataOf(text).map(textOf).join('') : textOf(jsonOf(text));
  return said === says ? undefined : `said ${JSON.stringify(said)} in place of ${JSON.stringify(says)}`;
}

/** Of OpenAI's, Anthropic's and the responses' shapes, whole or a piece. */
function textOf(value: unknown): string {
  const one = value as {
    choices?: { delta?: { content?: string }; message?: { content?: string }; text?: string }[];
    delta?: string | { text?: string };
    type?: string;
    content?: { text: string }[];
    output?: { content: { text: string }[] }[];
    data?: { note?: string }[];
  } | null;
  if (typeof one !== 'object' || one === null) return '';
  if (typeof one.delta === 'string') return one.delta;
  if (one.delta) return one.delta.text ?? '';
  if (one.choices)
    return one.choices.map(({ delta, message, text }) => delta?.content ?? message?.content ?? text ?? '').join('');
  if (one.output) return one.output.flatMap(({ content }) => content.map(({ text }) => text)).join('');
  if (one.data) return one.data.map(({ note }) => note ?? '').join('');
  return (one.content ?? []).map(({ text }) => text).join('');
}

function endsWell({ path }: Case, text: string): boolean {
  if (path.endsWith('/messages')) return text.endsWith('event: message_stop\ndata: {"type":"message_stop"}\n\n');
  const events = dataOf(text, (data) => data);
  if (path.endsWith('/responses')) return /"type" ?: ?"response\.(completed|incomplete)"/.test(String(events.at(-1)));
  return events.at(-1) === '[DONE]' && events.filter((data) => data === '[DONE]').length === 1;
}

/** The stream's last event is an error of ours. */
function failedIn(text: string): boolean {
  const last = dataOf(text).at(-1) as { error?: { code?: string }; type?: string } | undefined;
  return last?.error !== undefined || last?.type === 'error';
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { Rejected } from '@sluice/contracts/errors';
import { attemptId, ROUTER_HEADERS } from '@sluice/contracts/router';

/** What the gateway says of a request beside its body. */
export interface Errand {
  readonly requestId: string;
  readonly model: string;
  /** Milliseconds the whole request may take from its arrival here. */
  readonly deadlineMs: number;
  /** The gateway's OPEN of it, as JSON; undefined where nothing is metered. */
  readonly opened: string | undefined;
}

/** An allow-list, so that no client key, cookie or note of ours can reach a worker by being forgotten in a deny-list. */
const TO_WORKER = [
  'content-type',
  'accept',
  'accept-encoding',
  'traceparent',
  'tracestate',
  // Part of what is asked, in Messages.
  'anthropic-version',
  'anthropic-beta',
] as const;

/** Of one hop (RFC 9110, 7.6.1), so never passed on. */
const OF_ONE_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** @throws Rejected `invalid_request` naming the header that is missing or wrong */
export function readErrand(
  headers: IncomingHttpHeaders,
  ownId: string,
  deadline: { readonly defaultMs: number; readonly maxMs: number },
): Errand {
  const requestId = one(headers['x-request-id']) ?? ownId;
  if (!/^[\w.:-]{1,128}$/.test(requestId)) throw wrong('x-request-id');
  const model = decoded(one(headers[ROUTER_HEADERS.model]));
  if (model === undefined || model === '' || model.length > 256) throw wrong(ROUTER_HEADERS.model);
  const text = one(headers[ROUTER_HEADERS.deadlineMs]);
  if (text !== undefined && !/^[1-9]\d{0,9}$/.test(text)) throw wrong(ROUTER_HEADERS.deadlineMs);
  const deadlineMs = Math.min(text === undefined ? deadline.defaultMs : Number(text), deadline.maxMs);
  return { requestId, model, deadlineMs, opened: one(headers[ROUTER_HEADERS.opened]) };
}

/** Model ids may hold what a header may not: they come percent-encoded. */
function decoded(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** What a worker gets: the errand's own id and attempt, its own secret, and nothing the client authenticated with. */
export function workerHeaders(
  headers: IncomingHttpHeaders,
  requestId: string,
  attempt: number,
  secret: string | undefined,
): Record<string, string> {
  const sent: Record<string, string> = { 'x-request-id': attemptId(requestId, attempt) };
  for (const name of TO_WORKER) {
    const value = one(headers[name]);
    if (value !== undefined) sent[name] = value;
  }
  if (secret !== undefined) sent['authorization'] = `Bearer ${secret}`;
  return sent;
}

/** The worker's headers for the gateway: end to end ones as they came, and ours, which a worker cannot forge. */
export function answerHeaders(
  headers: IncomingHttpHeaders,
  own: { readonly requestId: string; readonly worker: string; readonly attempt: number },
): OutgoingHttpHeaders {
  const named = new Set((one(headers.connection) ?? '').toLowerCase().split(/\s*,\s*/));
  const passed: OutgoingHttpHeaders = {};
  for (const [name, value] of Object.entries(headers)) {
    if (OF_ONE_HOP.has(name) || named.has(name) || name.startsWith('x-sluice-')) continue;
    passed[name] = value;
  }
  passed['x-request-id'] = own.requestId;
  passed[ROUTER_HEADERS.worker] = own.worker;
  passed[ROUTER_HEADERS.attempt] = String(own.attempt);
  return passed;
}

/** Whole seconds of a `retry-after`; undefined for a date or nonsense. */
export function retryAfterSeconds(headers: IncomingHttpHeaders): number | undefined {
  const text = one(headers['retry-after']);
  return text !== undefined && /^\d{1,5}$/.test(text) ? Number(text) : undefined;
}

const one = (value: string | string[] | undefined): string | undefined =>
  (Array.isArray(value) ? value[0] : value) || undefined;

const wrong = (name: string): Rejected =>
  new Rejected('invalid_request', `The header ${name} is missing or not valid.`, { param: name });

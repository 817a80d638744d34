import type { Gateway } from './cluster.ts';

/** How long a caller waits; a gateway may be stopped for this long and answer when it wakes. */
const CALL_MS = 12_000;

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly secret: string | undefined;
  readonly body?: unknown;
  /** An Idempotency-Key. */
  readonly idempotency?: string;
}

/** Hears of an answer as it comes, in the turn in which its bytes are read. */
export interface Listener {
  head(status: number): void;
  data(text: string): void;
}

/** @returns undefined when no whole answer came: refused, reset, too late */
export async function send(
  { http }: Gateway,
  { method, path, secret, body, idempotency }: Call,
  listener?: Listener,
  timeoutMs = CALL_MS,
): Promise<{ status: number; text: string } | undefined> {
  try {
    const response = await http.request({
      method,
      path,
      headers: {
        ...(secret === undefined ? {} : { authorization: `Bearer ${secret}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(idempotency === undefined ? {} : { 'idempotency-key': idempotency }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    listener?.head(response.statusCode);
    let text = '';
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      const part = chunk.toString('utf8');
      listener?.data(part);
      text += part;
    }
    return { status: response.statusCode, text };
  } catch {
    return undefined;
  }
}

/** `data` of an answer of the management plane. */
export const dataOf = <T>(text: string): T => (JSON.parse(text) as { data: T }).data;

import type { Dispatcher } from 'undici';
import type { Gateway } from './cluster.ts';
import type { Kind, Order } from './mix.ts';

const TIMEOUT_MS = 60_000;

/** What one client saw of its request. */
export interface Seen {
  readonly order: Order;
  readonly keyId: string;
  readonly gateway: number;
  /** From the answer's head; undefined where none came. */
  readonly requestId: string | undefined;
  /** The answer came to its end, and was one. */
  readonly whole: boolean;
  /** Pieces of text that came: each is a token at least. */
  readonly pieces: number;
  /** Of an answer that came to an end, good or not: how far the gateway's trace of synced ENDs was then. */
  readonly syncedAtEnd: number | undefined;
  /** It left by itself. */
  readonly left: boolean;
  /** Its connection broke: the gateway died. */
  readonly broken: boolean;
  /** Why it is not whole; undefined where it is. */
  readonly failure: string | undefined;
  /** Monotonic milliseconds. */
  readonly endedAt: number;
}

/** Sends one request and reads what comes, until it leaves. Never throws. */
export async function send(
  { index, http, synced }: Gateway,
  order: Order,
  key: { readonly id: string; readonly secret: string },
  onPiece: (pieces: number) => void = () => {},
): Promise<Seen> {
  const leave = new AbortController();
  const { kind, leaveAfter } = order;
  const timers = [setTimeout(() => leave.abort('timeout'), TIMEOUT_MS)];
  if (leaveAfter && 'ms' in leaveAfter) timers.push(setTimeout(() => leave.abort('left'), leaveAfter.ms));
  const reader = new Reader(kind);
  let requestId: string | undefined;
  let failure: string | undefined;
  let broken = false;
  let syncedAtEnd: number | undefined;
  try {
    const answer = await http.request({
      method: 'POST',
      path: kind.path,
      headers: { 'x-api-key': key.secret, 'content-type': 'application/json' },
      body: order.body,
      signal: leave.signal,
    });
    requestId = idOf(answer);
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      reader.push(chunk.toString('utf8'));
      onPiece(reader.pieces);
      if (leaveAfter && 'pieces' in leaveAfter && reader.pieces >= leaveAfter.pieces) leave.abort('left');
    }
    syncedAtEnd = synced.now();
    if (answer.statusCode !== 200) failure = `${answer.statusCode} ${reader.code}`;
    else if (!reader.whole) failure = reader.code === '' ? 'cut' : `error in the stream: ${reader.code}`;
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException;
    failure = leave.signal.aborted ? String(leave.signal.reason) : (code ?? name);
    broken = !leave.signal.aborted;
  }
  for (const timer of timers) clearTimeout(timer);
  return {
    order,
    keyId: key.id,
    gateway: index,
    requestId,
    whole: failure === undefined,
    pieces: reader.pieces,
    syncedAtEnd,
    left: failure === 'left',
    broken,
    failure,
    endedAt: performance.now(),
  };
}

const idOf = ({ headers }: Dispatcher.ResponseData): string | undefined =>
  [headers['x-request-id'] ?? headers['request-id']].flat()[0];

/** Reads an answer as far as it is there: is it whole, and how many pieces of text came. */
class Reader {
  pieces = 0;
  whole = false;
  code = '';
  private rest = '';
  private readonly kind: Kind;

  constructor(kind: Kind) {
    this.kind = kind;
  }

  push(text: string): void {
    this.rest += text;
    if (!this.kind.stream) return this.body(this.rest);
    // What is refused before the stream is no stream.
    if (this.rest.startsWith('{')) return this.body(this.rest);
    const blocks = this.rest.split('\n\n');
    this.rest = blocks.pop()!;
    for (const block of blocks) this.event(block);
  }

  private body(text: string): void {
    const body = parsed(text);
    if (body === undefined) return;
    this.code = codeOf(body);
    this.whole = this.code === '' && !this.kind.stream;
  }

  private event(block: string): void {
    const data = block
      .split('\n')
      .find((line) => line.startsWith('data: '))
      ?.slice('data: '.length);
    if (data === undefined) return;
    if (data === '[DONE]') return void (this.whole = true);
    const event = parsed(data) ?? {};
    this.code ||= codeOf(event);
    const { type } = event;
    if (type === 'message_stop' || type === 'response.completed' || type === 'response.incomplete') this.whole = true;
    if (textOf(event)) this.pieces++;
  }
}

interface Body {
  readonly type?: string;
  readonly choices?: readonly { readonly text?: string; readonly delta?: { readonly content?: string } }[];
  readonly delta?: string | { readonly text?: string };
  readonly error?: { readonly code?: string; readonly type?: string } | null;
}

/** The text of one event, in whichever dialect. */
function textOf({ type, choices, delta }: Body): string | undefined {
  if (choices) return choices[0]?.delta?.content ?? choices[0]?.text;
  if (type === 'content_block_delta') return (delta as { text?: string }).text;
  return type === 'response.output_text.delta' ? (delta as string) : undefined;
}

const codeOf = ({ error }: Body): string => (error ? (error.code ?? error.type ?? 'without a code') : '');

function parsed(text: string): Body | undefined {
  try {
    return JSON.parse(text) as Body;
  } catch {
    return undefined;
  }
}

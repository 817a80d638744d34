import { setTimeout as sleep } from 'node:timers/promises';
import { Pool, type Dispatcher } from 'undici';
import { NotWhole, readStream, readWhole } from './answer.ts';
import type { Key } from './management.ts';
import { promptOf } from './prompt.ts';
import type { Sent } from './reconcile.ts';
import type { TraceRow } from './trace.ts';

export interface Order {
  readonly row: TraceRow;
  readonly key: Key;
  readonly model: string;
  readonly stream: boolean;
}

/** What was sent when, and what came of it. */
export interface Timed extends Sent {
  /** Unix milliseconds */
  readonly sentAt: number;
}

export interface SendOptions {
  readonly baseUrl: string;
  /** 32 random bits: the run. */
  readonly run: number;
  readonly speed: number;
  readonly concurrency: number;
  readonly timeoutMs: number;
  readonly onDone: (one: Timed) => void;
}

/** Row i on key i mod K and model i mod M; streams and whole answers take turns over the models. */
export const orderOf = (row: TraceRow, keys: readonly Key[], models: readonly string[]): Order => ({
  row,
  key: keys[row.index % keys.length]!,
  model: models[row.index % models.length]!,
  stream: Math.floor(row.index / models.length) % 2 === 1,
});

/** Sends every order at its time, or as soon after as there is room; nothing is sent twice. */
export async function sendAll(orders: readonly Order[], options: SendOptions): Promise<Timed[]> {
  const { concurrency, speed, timeoutMs } = options;
  const pool = new Pool(new URL(options.baseUrl).origin, {
    connections: concurrency,
    pipelining: 1,
    connect: { timeout: 10_000 },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  });
  const began = performance.now();
  const running = new Set<Promise<void>>();
  const sent: Timed[] = [];
  const keep = async (order: Order): Promise<void> => {
    const done = await send(pool, order, options);
    sent.push(done);
    options.onDone(done);
  };
  for (const order of orders) {
    const wait = order.row.at / speed - (performance.now() - began);
    if (wait > 0) await sleep(wait);
    while (running.size >= concurrency) await Promise.race(running);
    const one = keep(order);
    running.add(one);
    void one.finally(() => running.delete(one));
  }
  await Promise.all(running);
  await pool.destroy();
  return sent;
}

async function send(pool: Pool, { row, key, model, stream }: Order, options: SendOptions): Promise<Timed> {
  const sentAt = Date.now();
  let response: Dispatcher.ResponseData | undefined;
  const outcome = (answer: Sent['answer'], failure: string | undefined): Timed => ({
    row,
    keyId: key.id,
    keyName: key.name,
    model,
    requestId: header(response, 'x-request-id'),
    attempt: Number(header(response, 'x-sluice-attempt') ?? 1),
    answer,
    failure,
    sentAt,
  });
  try {
    response = await pool.request({
      method: 'POST',
      path: '/v1/chat/completions',
      headers: {
        authorization: `Bearer ${key.secret}`,
        'content-type': 'application/json',
        'x-request-id': `replay-${options.run.toString(16)}-${row.index}`,
      },
      body: JSON.stringify({
        model,
        messages: [{ role: 'user', content: promptOf(row.contextTokens, options.run, row.index) }],
        max_tokens: row.generatedTokens,
        min_tokens: row.generatedTokens,
        ignore_eos: true,
        stream,
        ...(stream ? { stream_options: { include_usage: true } } : {}),
      }),
      signal: AbortSignal.timeout(options.timeoutMs),
    });
    const text = await response.body.text();
    if (response.statusCode !== 200) return outcome(undefined, `${response.statusCode} ${codeOf(text)}`);
    return outcome(stream ? readStream(text) : readWhole(text), undefined);
  } catch (error) {
    if (error instanceof NotWhole) return outcome(undefined, error.message);
    const { code, name } = error as NodeJS.ErrnoException;
    return outcome(undefined, `${response === undefined ? 'no answer' : 'cut'}: ${code ?? name}`);
  }
}

function header(response: Dispatcher.ResponseData | undefined, name: string): string | undefined {
  const value = response?.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function codeOf(text: string): string {
  try {
    return String((JSON.parse(text) as { error: { code: unknown } }).error.code);
  } catch {
    return 'without a code';
  }
}

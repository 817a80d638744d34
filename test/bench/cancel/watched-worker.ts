// A worker that tells when a request was let go, and how much of its answer had left it by then.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { chunked, PlayedWorker, type Asked } from '../../played-worker.ts';
import type { TestStack } from '../../stack.ts';

/** Tokens of a stream before it rests. */
export const TOKENS = 20;
const BETWEEN_MS = 2;
/** What a flooding worker would send, if anybody took it. */
export const FLOOD_BYTES = 200 * 1024 * 1024;
const FLOOD_EVENT = 'x'.repeat(4_096);

/**
 * What it does with a request: `rest`: some tokens of a stream, then nothing; `hold`: no byte; `half`: a half of a whole
 * answer; `flood`: 200 MB as fast as they are taken.
 */
export type Way = 'rest' | 'hold' | 'half' | 'flood';

export interface Watched {
  readonly reached: Promise<void>;
  /** Milliseconds of performance.now() at which the connection to the worker was gone. */
  readonly gone: Promise<number>;
  /** Bytes of events that were given to the socket, and tokens that they count. */
  sent: number;
  tokens: number;
}

export class WatchedWorker {
  private readonly watched = new Map<string, Watched & { arrived: (socket: Socket) => void }>();
  private worker!: PlayedWorker;

  static async start(stack: TestStack): Promise<WatchedWorker> {
    const own = new WatchedWorker();
    own.worker = await PlayedWorker.start({ stack, answer: (asked) => void own.answer(asked) });
    return own;
  }

  stop(): Promise<void> {
    return this.worker.stop();
  }

  /** What becomes of the request whose prompt is `<way>-<id>`. */
  watch(prompt: string): Watched {
    let reached = () => {};
    let gone: (at: number) => void = () => {};
    const watched = {
      reached: new Promise<void>((resolve) => (reached = resolve)),
      gone: new Promise<number>((resolve) => (gone = resolve)),
      sent: 0,
      tokens: 0,
      arrived: (socket: Socket) => {
        reached();
        socket.once('close', () => gone(performance.now()));
      },
    };
    this.watched.set(prompt, watched);
    return watched;
  }

  private async answer({ socket, body }: Asked): Promise<void> {
    const prompt = /"(\w+-\d+)"/.exec(body)![1]!;
    const watched = this.watched.get(prompt)!;
    watched.arrived(socket);
    const way = prompt.split('-')[0] as Way;
    if (way === 'hold') return;
    if (way === 'half') {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"choices":[');
      return;
    }
    socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n');
    const more = () => (way === 'rest' ? watched.tokens < TOKENS : watched.sent < FLOOD_BYTES);
    while (more() && !socket.destroyed) {
      watched.tokens++;
      const event = eventOf(way === 'rest' ? 'word ' : FLOOD_EVENT, watched.tokens);
      watched.sent += event.length;
      if (!socket.write(chunked(event))) await once(socket, 'drain').catch(() => {});
      if (way === 'rest') await sleep(BETWEEN_MS);
    }
  }
}

const eventOf = (content: string, tokens: number): string =>
  `data: ${JSON.stringify({
    id: 'c',
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta: { content }, finish_reason: null }],
    usage: { prompt_tokens: 7, completion_tokens: tokens },
  })}\n\n`;

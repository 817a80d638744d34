// Clients that go away in the middle of an answer.
import { connect, type Socket } from 'node:net';
import { eventually, type TestStack } from '../../stack.ts';
import { TOKENS, type Watched, type WatchedWorker, type Way } from './watched-worker.ts';

/** `close`: as a process does that ends; `half`: its sending side alone; `reset`: as a machine does that knows nothing of it. */
export type How = 'close' | 'half' | 'reset';
/** Nothing more is taken of an answer that nobody reads: not for so long. */
const STANDS_STILL_MS = 1_000;

export interface Left {
  /** From the client's going until the connection to the worker was gone. */
  readonly afterMs: number;
  readonly requestId: string | undefined;
  /** Tokens that the client has read. */
  readonly tokens: number;
}

/** A client with a request under way; one whose answer is a flood reads nothing of it. */
export class Leaver {
  private text = '';
  readonly watched: Watched;
  private readonly socket: Socket;
  private readonly way: Way;

  constructor({ baseUrl, models }: TestStack, key: string, worker: WatchedWorker, way: Way, id: number) {
    const { port } = new URL(baseUrl);
    const prompt = `${way}-${id}`;
    this.way = way;
    this.watched = worker.watch(prompt);
    const stream = way !== 'half';
    const body = JSON.stringify({ model: models[0], messages: [{ role: 'user', content: prompt }], stream });
    this.socket = connect({ port: Number(port), host: '127.0.0.1' });
    this.socket.on('error', () => {});
    // Without a reader the socket takes what the kernel has room for, and no more.
    if (way !== 'flood') this.socket.on('data', (chunk: Buffer) => (this.text += chunk.toString('latin1')));
    this.socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\n` +
        `content-length: ${body.length}\r\n\r\n${body}`,
    );
  }

  /** Resolves when the answer is as far as it gets while this client stays. */
  async midway(): Promise<void> {
    await this.watched.reached;
    if (this.way === 'rest') await eventually(async () => this.tokens === TOKENS);
    if (this.way === 'flood') await this.standsStill();
  }

  async leave(how: How): Promise<Left> {
    const at = performance.now();
    if (how === 'close') this.socket.destroy();
    else if (how === 'half') this.socket.end();
    else this.socket.resetAndDestroy();
    const gone = await this.watched.gone;
    this.socket.destroy();
    const requestId = /\r\nx-request-id: (\S+)/i.exec(this.text)?.[1];
    return { afterMs: gone - at, requestId, tokens: this.tokens };
  }

  private get tokens(): number {
    return this.text.split('"content":').length - 1;
  }

  private async standsStill(): Promise<void> {
    let last = -1;
    let since = performance.now();
    await eventually(async () => {
      if (this.watched.sent !== last) since = performance.now();
      last = this.watched.sent;
      return last > 0 && performance.now() - since > STANDS_STILL_MS;
    }, 120_000);
  }
}

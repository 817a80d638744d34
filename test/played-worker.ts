// A GPU worker that a test plays itself, byte by byte: what no engine would do on request. To the router it is a worker, or
// several, that tell their heartbeats.
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { HEARTBEAT_INTERVAL_MS, type WorkerHeartbeat } from '@sluice/contracts/router';
import { heartbeatSubject } from '@sluice/contracts/subjects';
import { connect, type Messaging } from '@sluice/messaging';
import { eventually, type TestStack } from './stack.ts';

const HEAD_END = Buffer.from('\r\n\r\n');

/** A request that came whole. */
export interface Asked {
  readonly socket: Socket;
  /** As clients know it. */
  readonly path: string;
  readonly body: string;
}

export interface PlayedWorkerOptions {
  readonly stack: TestStack;
  /** How many it pretends to be (1): one that fails a few times in a row is left alone for a while. */
  readonly count?: number;
  readonly answer: (asked: Asked) => void;
}

export class PlayedWorker {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly messaging: Messaging;
  private beats: NodeJS.Timeout | undefined;
  private readonly options: PlayedWorkerOptions;

  private constructor(options: PlayedWorkerOptions) {
    this.options = options;
    this.messaging = connect({ url: options.stack.natsUrl('worker'), name: 'worker' });
    this.server = createServer({ noDelay: true }, (socket) => this.listen(socket));
  }

  /** Resolves when the router knows it. */
  static async start(options: PlayedWorkerOptions): Promise<PlayedWorker> {
    const worker = new PlayedWorker(options);
    await new Promise<void>((resolve) => worker.server.listen(0, '127.0.0.1', resolve));
    const { port } = worker.server.address() as AddressInfo;
    const ids = Array.from({ length: options.count ?? 1 }, (_, i) => `w${i}`);
    const beat = () => ids.forEach((id) => worker.beat(id, port));
    worker.beats = setInterval(beat, HEARTBEAT_INTERVAL_MS);
    const metrics = `${options.stack.urls.router}/metrics`;
    const known = /^sluice_router_heartbeats_total\{[^}]*result="known"[^}]*\} [1-9]/m;
    await eventually(async () => known.test(await (await fetch(metrics)).text()));
    return worker;
  }

  async stop(): Promise<void> {
    clearInterval(this.beats);
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
    await this.messaging.close();
  }

  private beat(id: string, port: number): void {
    const heartbeat: WorkerHeartbeat = {
      id,
      url: `http://127.0.0.1:${port}/${id}`,
      models: this.options.stack.models.map((model) => ({ id: model })),
      slots: 1_000,
      running: 0,
      waiting: 0,
      kvCacheUsage: 0,
      version: 'played',
    };
    this.messaging.publishCore(heartbeatSubject(id), Buffer.from(JSON.stringify(heartbeat)));
  }

  private listen(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    let arrived: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => {
      arrived.push(chunk);
      const bytes = Buffer.concat(arrived);
      const end = bytes.indexOf(HEAD_END);
      if (end === -1) return;
      const head = bytes.toString('latin1', 0, end);
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
      if (bytes.length < end + HEAD_END.length + length) return;
      arrived = [];
      const path = head.split(' ')[1]!.replace(/^\/w\d+/, '');
      if (path === '/health') socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}');
      else this.options.answer({ socket, path, body: bytes.toString('latin1', end + HEAD_END.length) });
    });
  }
}

/** One piece of the chunked transfer coding. */
export const chunked = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

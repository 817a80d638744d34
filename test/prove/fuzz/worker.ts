// A GPU worker that says whatever a case wants it to say. One server is many workers to the router: one that fails a few
// times in a row is left alone for a while, and the fuzzing would be over.
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { HEARTBEAT_INTERVAL_MS, type WorkerHeartbeat } from '@sluice/contracts/router';
import { heartbeatSubject } from '@sluice/contracts/subjects';
import { connect, type Messaging } from '@sluice/messaging';
import { soundAnswer, type Script } from './scripts.ts';

/** Found in the prompt: which script the worker follows. */
export const markOf = (id: string): string => `case-${id}-`;
const MARK = /case-([a-z0-9]+)-/;
const HEAD_END = Buffer.from('\r\n\r\n');

export interface WorkerOptions {
  readonly natsUrl: string;
  readonly models: readonly string[];
  /** How many it pretends to be. */
  readonly count: number;
}

export class HostileWorker {
  /** By the id of the case. */
  readonly scripts = new Map<string, Script>();
  /** Requests that came. */
  asked = 0;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly messaging: Messaging;
  private beats: NodeJS.Timeout | undefined;
  private readonly options: WorkerOptions;

  constructor(options: WorkerOptions) {
    this.options = options;
    this.messaging = connect({ url: options.natsUrl, name: 'worker' });
    this.server = createServer({ noDelay: true }, (socket) => this.listen(socket));
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    const { port } = this.server.address() as AddressInfo;
    const beat = () => {
      for (let i = 0; i < this.options.count; i++) this.beat(`w${i}`, port);
    };
    this.beats = setInterval(beat, HEARTBEAT_INTERVAL_MS);
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
      models: this.options.models.map((model) => ({ id: model })),
      slots: 1_000,
      running: 0,
      waiting: 0,
      kvCacheUsage: 0,
      version: 'fuzz',
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
      void this.answer(socket, head, bytes.toString('latin1', end + HEAD_END.length));
    });
  }

  private async answer(socket: Socket, head: string, body: string): Promise<void> {
    const path = head
      .slice(head.indexOf(' ') + 1)
      .replace(/^\/w\d+/, '')
      .split(' ')[0]!;
    if (path === '/health') {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}');
      return;
    }
    this.asked += 1;
    const script = this.scripts.get(MARK.exec(body)?.[1] ?? '') ?? soundAnswer(path, asksStream(body));
    for (const part of script.parts) {
      if (socket.destroyed) return;
      socket.write(part);
      await new Promise((next) => setImmediate(next));
    }
    if (script.end === 'fin') socket.end();
    else if (script.end === 'reset') socket.resetAndDestroy();
  }
}

const asksStream = (body: string): boolean => (JSON.parse(body) as { stream?: unknown }).stream === true;

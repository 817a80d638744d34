import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Lane, Pipe } from './pipe.ts';

/** A TCP link between two processes, in the hand of a test. */
export class Proxy {
  /** Towards the target, and back. */
  readonly up = new Lane();
  readonly down = new Lane();
  /** Connections are refused, as by a machine on which nobody listens. */
  refusing = false;
  target: { readonly host: string; readonly port: number } | undefined;
  readonly name: string;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  private constructor(name: string, server: Server) {
    this.name = name;
    this.server = server;
    server.on('connection', (client: Socket) => this.accept(client));
  }

  static async listen(name: string): Promise<Proxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Proxy(name, server);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** The URL of the target, led through here. */
  through(url: string): string {
    const led = new URL(url);
    this.target = { host: led.hostname, port: Number(led.port) };
    led.hostname = '127.0.0.1';
    led.port = String(this.port);
    return led.href.replace(/\/$/, '');
  }

  /** Nothing passes in either direction, and nobody is told. */
  hold(): void {
    this.up.hold();
    this.down.hold();
  }

  /** Every connection breaks, and both ends hear of it. */
  cut(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  /** As if nothing had been done to it; what was held goes on its way. */
  heal(): void {
    this.refusing = false;
    this.up.release();
    this.down.release();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private accept(client: Socket): void {
    if (this.refusing || this.target === undefined) return void client.resetAndDestroy();
    const server = connect({ ...this.target, allowHalfOpen: true, noDelay: true });
    const pipes = [new Pipe(client, server, this.up), new Pipe(server, client, this.down)];
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.sockets.add(one);
      // An end that broke is not seen through a cut cable: the other one stays until the link heals or it gives up itself.
      one.on('error', () => {
        if (!this.up.held && !this.down.held) other.resetAndDestroy();
      });
      one.on('close', () => {
        this.sockets.delete(one);
        if (other.destroyed) for (const pipe of pipes) pipe.close();
        else if (!this.up.held && !this.down.held) other.end();
      });
    }
  }
}

// What a hop costs in Node at least: node:http in front, undici's dispatch behind, bytes through, nothing else. Told where to
// send to; tells its port.
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Pool, type Dispatcher } from 'undici';

const pool = new Pool(process.argv[2]!, { connections: 512, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 });
/** They are made anew for each hop. */
const OF_ONE_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'host']);
const passed = (
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string | string[]> => {
  const kept: Record<string, string | string[]> = {};
  for (const name in headers) if (!OF_ONE_HOP.has(name)) kept[name] = headers[name]!;
  return kept;
};

class Passing implements Dispatcher.DispatchHandler {
  private readonly response: ServerResponse;

  constructor(response: ServerResponse) {
    this.response = response;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.response.once('close', () => {
      if (!this.response.writableFinished) controller.abort(new Error('the client is gone'));
    });
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    this.response.writeHead(status, passed(headers));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.response.write(chunk)) return;
    controller.pause();
    this.response.once('drain', () => controller.resume());
  }

  onResponseEnd(): void {
    this.response.end();
  }

  onResponseError(): void {
    if (this.response.headersSent) this.response.destroy();
    else this.response.writeHead(502).end();
  }
}

const server = createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () =>
    pool.dispatch(
      {
        method: request.method as Dispatcher.HttpMethod,
        path: request.url!,
        headers: passed(request.headers),
        body: parts.length === 1 ? parts[0]! : Buffer.concat(parts),
      },
      new Passing(response),
    ),
  );
});
server.listen(0, '127.0.0.1', () => process.send!({ port: (server.address() as AddressInfo).port }));

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ERRORS } from '@sluice/contracts/errors';
import { managementProblem, toRejected, type ServiceTokens } from '@sluice/service-kit';

/** By method and the beginning of the path, as JSON; the first that fits. */
export type Answers = Readonly<
  Record<string, object | ((request: IncomingMessage, response: ServerResponse, body: string) => object)>
>;

/** A service behind the gateway that answers what the test says, to who brings a token that it can verify. */
export class MadeUpService {
  /** Paths on which it verifies with other keys, as one does that the right ones were not rolled out to. */
  refusesOn = (_path: string): boolean => false;
  private readonly server: Server;

  private constructor(
    private readonly right: ServiceTokens,
    private readonly wrong: ServiceTokens,
    private readonly answers: Answers,
  ) {
    this.server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => void this.answer(request, response, body));
    });
  }

  static async start(right: ServiceTokens, wrong: ServiceTokens, answers: Answers): Promise<MadeUpService> {
    const made = new MadeUpService(right, wrong, answers);
    await new Promise<void>((resolve) => made.server.listen(0, '127.0.0.1', resolve));
    return made;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async answer(request: IncomingMessage, response: ServerResponse, body: string): Promise<void> {
    const asked = `${request.method} ${request.url}`;
    try {
      await (this.refusesOn(request.url!) ? this.wrong : this.right).verify(request.headers.authorization);
      const answer = Object.entries(this.answers).find(([start]) => asked.startsWith(start))?.[1] ?? {};
      const told: object = typeof answer === 'function' ? answer(request, response, body) : answer;
      response.setHeader('content-type', 'application/json').end(JSON.stringify(told));
    } catch (error) {
      const rejected = toRejected(error);
      response.writeHead(ERRORS[rejected.code].status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(managementProblem(rejected, 'r')));
    }
  }
}

import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Invalidation } from '@sluice/contracts/auth';
import { systemId } from '@sluice/primitives/id';
import { GatewayMembership } from './membership.service.js';

/** For an InForceService whose gateways are to confirm: however long a machine stands still, nothing else ends the wait. */
export const PATIENT = { evidenceMs: 60_000, answerMs: 60_000 };

/** What a made-up gateway does. */
export interface Behaviour {
  /** The boot id that it answers a push with, or the status of its refusal; undefined: it never answers. */
  readonly pushed?: (boot: string) => string | number | undefined;
  /** The status of `GET /v1/key` for this secret; undefined: it never answers. */
  readonly key?: (secret: string) => Promise<number | undefined>;
  /** Tombstones arrive. */
  readonly heard?: (tombstones: readonly Invalidation[]) => void;
}

/** Gateways that are registered and do with a push what they are told to. */
export class MadeUpGateways {
  readonly heard: Invalidation[] = [];
  private readonly servers: Server[] = [];

  async start(em: EntityManager, behaviour: Behaviour = {}): Promise<string> {
    const boot = systemId();
    const server = createServer((request, response) => {
      const answered = async () => {
        const answer = await this.answer(request, boot, behaviour);
        if (answer) response.writeHead(answer.status).end(JSON.stringify(answer.body));
      };
      void answered();
    });
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new GatewayMembership(em).register(boot, `http://127.0.0.1:${port}`);
    return boot;
  }

  stop(): void {
    this.heard.length = 0;
    for (const server of this.servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  }

  private async answer(
    request: IncomingMessage,
    boot: string,
    { pushed = (own) => own, key, heard }: Behaviour,
  ): Promise<{ status: number; body: object } | undefined> {
    if (request.url === '/v1/key') {
      const status = await key?.(String(request.headers.authorization).slice('Bearer '.length));
      return status === undefined ? undefined : { status, body: {} };
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { tombstones } = JSON.parse(Buffer.concat(chunks).toString()) as { tombstones: Invalidation[] };
    const by = pushed(boot);
    if (by === undefined) return undefined;
    if (typeof by === 'number') return { status: by, body: {} };
    this.heard.push(...tombstones);
    heard?.(tombstones);
    return { status: 200, body: { boot: by, tombstones } };
  }
}

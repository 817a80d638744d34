import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { systemClock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { connect } from 'node:net';
import { GatewayRow, type Gateway } from './gateway.entity.js';

const REAP_EVERY_MS = 5_000;
/** Far beyond the life of any evidence: what is this old holds nothing. */
const SILENT_MS = 30_000;
const CONNECT_MS = 1_000;

/**
 * Retires gateways that died without saying so: silent for long, and nobody listens where they listened. Until then a
 * revoke waits for their evidence to run out, which is slower and just as right.
 */
@Injectable()
export class GatewayReaper implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('gateway-reaper');
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly em: EntityManager) {}

  onModuleInit(): void {
    this.timer = setInterval(
      () => void this.reap().catch((err: unknown) => this.log.debug({ err }, 'no reaping now')),
      REAP_EVERY_MS,
    );
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  async reap(): Promise<void> {
    const silentSince = new Date(systemClock.now() - SILENT_MS);
    const silent = await this.em
      .fork()
      .find(GatewayRow, { retiredAt: null, lastLookupAt: { $lt: silentSince }, registeredAt: { $lt: silentSince } });
    for (const gateway of silent) {
      if (!(await nobodyListens(gateway))) continue;
      // Only if it is still as silent as it was when it was looked at.
      const where = { boot: gateway.boot, lastLookupAt: gateway.lastLookupAt };
      await this.em.fork().nativeUpdate(GatewayRow, where, { retiredAt: new Date(systemClock.now()) });
      this.log.info({ boot: gateway.boot }, 'retired a dead gateway');
    }
  }
}

/** True only for a refused connection: a machine that does not answer may be cut off and alive. */
function nobodyListens({ url }: Gateway): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), timeout: CONNECT_MS });
    const end = (refused: boolean) => {
      socket.destroy();
      resolve(refused);
    };
    socket.once('connect', () => end(false));
    socket.once('timeout', () => end(false));
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code === 'ECONNREFUSED'));
  });
}

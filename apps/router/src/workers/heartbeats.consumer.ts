import { Injectable, type OnModuleInit } from '@nestjs/common';
import { workerHeartbeatSchema, type WorkerHeartbeat } from '@sluice/contracts/router';
import { HEARTBEATS, heartbeatSubject } from '@sluice/contracts/subjects';
import type { CoreMessage, Messaging, MessagingStatus } from '@sluice/messaging';
import { loggerFor } from '@sluice/service-kit';
import { heartbeats } from '../router.metrics.js';
import type { WorkersService } from './workers.service.js';

/** A heartbeat with the most models it may name is far below this. */
const MAX_BYTES = 64 * 1024;

/**
 * Follows the workers' heartbeats on core NATS. Nothing here waits for NATS: without it the router starts, keeps the
 * workers it knows by probing them, and hears of new ones when it is back.
 */
@Injectable()
export class HeartbeatsConsumer implements OnModuleInit {
  private readonly log = loggerFor('heartbeats');
  private away = false;

  constructor(
    private readonly messaging: Messaging,
    private readonly workers: WorkersService,
  ) {}

  onModuleInit(): void {
    this.messaging.onStatus((status) => this.say(status));
    this.messaging.subscribeCore(HEARTBEATS, (message) => heartbeats.inc({ result: this.take(message) }));
  }

  /** A server that is away makes an error with every attempt at it: one line says it. */
  private say(status: MessagingStatus): void {
    if (status.type !== 'error') {
      this.away = false;
      this.log.info(`NATS ${status.type}`);
    } else if (!this.away) {
      this.away = true;
      this.log.warn({ reason: status.error.message }, 'NATS');
    }
  }

  private take({ subject, data }: CoreMessage): string {
    const beat = read(data);
    // Permissions on the bus are by subject, so the subject is what proves the id.
    if (!beat || subject !== heartbeatSubject(beat.id)) return 'malformed';
    return this.workers.heard(beat);
  }
}

function read(data: Uint8Array): WorkerHeartbeat | undefined {
  if (data.length > MAX_BYTES) return undefined;
  try {
    return workerHeartbeatSchema.safeParse(JSON.parse(Buffer.from(data).toString())).data;
  } catch {
    return undefined;
  }
}

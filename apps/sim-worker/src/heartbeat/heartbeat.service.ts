import { heartbeatSubject } from '@sluice/contracts/subjects';
import { HEARTBEAT_INTERVAL_MS, workerHeartbeatSchema, type WorkerHeartbeat } from '@sluice/contracts/router';

/** Fire and forget; false when nobody could take it. */
export type Publish = (subject: string, bytes: Uint8Array) => boolean;

/** Tells the world once a second that this worker lives, and how busy it is. A lost one is made good by the next. */
export class Heartbeat {
  private readonly publish: Publish;
  private readonly read: () => WorkerHeartbeat;
  private timer: NodeJS.Timeout | undefined;

  constructor(publish: Publish, read: () => WorkerHeartbeat) {
    this.publish = publish;
    this.read = read;
  }

  start(intervalMs = HEARTBEAT_INTERVAL_MS): void {
    this.beat();
    this.timer = setInterval(() => this.beat(), intervalMs);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  beat(): void {
    const heartbeat = workerHeartbeatSchema.parse(this.read());
    this.publish(heartbeatSubject(heartbeat.id), Buffer.from(JSON.stringify(heartbeat)));
  }
}

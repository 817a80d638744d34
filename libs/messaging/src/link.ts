import type { JetStreamClient, JetStreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';

export type MessagingStatus =
  | { readonly type: 'connected' | 'disconnected' }
  /** Something the server or a handler complains about: log it. Never carries a payload. */
  | { readonly type: 'error'; readonly error: Error };

/** What the other files of this library need of the connection. */
export interface Link {
  readonly connected: boolean;
  whenConnected(timeoutMs: number): Promise<void>;
  onStatus(listener: (status: MessagingStatus) => void): () => void;
  /** @throws NotConnected */
  connection(): { nc: NatsConnection; js: JetStreamClient };
  /** @throws NotConnected */
  manager(): Promise<JetStreamManager>;
  newInbox(): string;
  report(error: unknown): void;
}

/** There is no connection at the moment; nothing was sent. */
export class NotConnected extends Error {
  override readonly name = 'NotConnected';
  constructor(message = 'not connected to NATS') {
    super(message);
  }
}

/** Too many publishes are waiting for their acknowledgement; nothing was sent. */
export class TooManyInFlight extends Error {
  override readonly name = 'TooManyInFlight';
}

import { loggerFor } from './logger.js';

/** What can be told of a connection to NATS; libs/messaging's Messaging is one. */
interface Broker {
  onStatus(listener: (status: { readonly type: string; readonly error?: Error }) => void): unknown;
}

/** Logs what becomes of the connection. @param onConnected called whenever there is one again */
export function logBroker(broker: Broker, onConnected: () => void = () => {}): void {
  const log = loggerFor('messaging');
  broker.onStatus(({ type, error }) => {
    if (error) log.warn({ err: error }, 'messaging');
    else log.info(`NATS ${type}`);
    if (type === 'connected') onConnected();
  });
}

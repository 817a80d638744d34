import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';

/** Resolves true when the server answers as it should to one that may use it. Never hangs: each try is bounded. */
export type Probe = () => Promise<boolean>;

const TRY_MS = 3_000;

export const postgresAnswers =
  (url: string): Probe =>
  async () => {
    const client = new Client({ connectionString: url, connectionTimeoutMillis: TRY_MS, query_timeout: TRY_MS });
    client.on('error', () => {});
    try {
      await client.connect();
      await client.query('select 1');
      return true;
    } catch {
      return false;
    } finally {
      await client.end().catch(() => {});
    }
  };

/** The port speaks NATS, and JetStream is up behind it. */
export const natsAnswers =
  (host: string, port: number, monitorUrl: string): Probe =>
  async () => {
    const healthy = await fetch(`${monitorUrl}/healthz?js-enabled-only=true`, { signal: AbortSignal.timeout(TRY_MS) })
      .then((response) => response.ok)
      .catch(() => false);
    return healthy && (await conversation(host, port, '', /^INFO /));
  };

export const redisAnswers =
  (host: string, port: number, password: string): Probe =>
  () =>
    conversation(host, port, `AUTH ${password}\r\nPING\r\n`, /\+OK\r\n\+PONG\r\n/);

const conversation = (host: string, port: number, say: string, expected: RegExp): Promise<boolean> =>
  new Promise((resolve) => {
    let heard = '';
    const socket = connect({ host, port, timeout: TRY_MS }, () => {
      if (say !== '') socket.write(say);
    });
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('data', (data) => {
      heard += data.toString('latin1');
      if (expected.test(heard)) done(true);
    });
    socket.on('timeout', () => done(false));
    socket.on('error', () => done(false));
    socket.on('close', () => done(false));
  });

/** Tries until the probe holds; false when `gone` says that waiting is pointless, or after `milliseconds`. */
export async function until(probe: Probe, milliseconds: number, gone: () => boolean = () => false): Promise<boolean> {
  const deadline = performance.now() + milliseconds;
  while (performance.now() < deadline && !gone()) {
    if (await probe()) return true;
    await sleep(25);
  }
  return false;
}

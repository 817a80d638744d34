import { connect } from '@sluice/messaging';
import { pino } from 'pino';
import { ConfigError, simWorkerConfig, type SimWorkerConfig } from './sim-worker.config.js';
import { Worker } from './worker.service.js';

const config = readConfig();
if (!process.argv.includes('--validate')) await run(config);

async function run(config: SimWorkerConfig): Promise<void> {
  const base = { service: 'sim-worker', worker: config.WORKER_ID };
  const logger = pino({ level: config.LOG_LEVEL, base, timestamp: pino.stdTimeFunctions.isoTime });
  process.on('uncaughtException', (err) => {
    logger.fatal({ err }, 'uncaught');
    process.exit(1);
  });
  const messaging =
    config.NATS_URL === undefined
      ? undefined
      : connect({
          url: config.NATS_URL,
          name: config.WORKER_ID,
          onStatus: (status) =>
            status.type === 'error' ? logger.debug({ err: status.error }, 'NATS') : logger.info(`NATS: ${status.type}`),
        });
  const worker = new Worker(config, {
    logger,
    publish: (subject, bytes) => messaging?.publishCore(subject, bytes) ?? false,
    crash: () => process.kill(process.pid, 'SIGKILL'),
  });
  await worker.start();
  logger.info({ url: worker.url, models: config.WORKER_MODELS }, 'listening');

  const stop = async () => {
    // A second signal, or a stop that hangs, ends it at once.
    setTimeout(() => process.exit(1), config.SHUTDOWN_GRACE_MS + 5_000).unref();
    await worker.stop(config.SHUTDOWN_GRACE_MS);
    await messaging?.close();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop());
}

function readConfig(): SimWorkerConfig {
  try {
    return simWorkerConfig();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`sim-worker: ${error.message}\n`);
    process.exit(2);
  }
}

import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { WorkerHeartbeat } from '@sluice/contracts/router';
import { systemClock } from '@sluice/primitives/clock';
import type { Logger } from 'pino';
import { PrefixCache } from './cache/prefix-cache.js';
import { completions, type Protocol } from './completions/answer.js';
import { chatDialect, textDialect } from './completions/dialect.js';
import { Generations, type Machine } from './completions/generation.service.js';
import { Embeddings } from './embeddings/embeddings.service.js';
import { FaultSwitch } from './faults/faults.js';
import { faultRoutes } from './faults/faults.routes.js';
import { Heartbeat, type Publish } from './heartbeat/heartbeat.service.js';
import { GenerationLog } from './log/generation-log.service.js';
import { WorkerMetrics } from './metrics/worker-metrics.service.js';
import { messagesProtocol } from './messages/answer.js';
import { countTokens } from './messages/count-tokens.service.js';
import { modelList } from './models/models.js';
import { responsesProtocol } from './responses/answer.js';
import { readJson } from './server/exchange.server.js';
import { transcription } from './transcriptions/answer.js';
import { readForm } from './transcriptions/form.server.js';
import { workerServer, type Handler } from './server/worker.server.js';
import type { SimWorkerConfig } from './sim-worker.config.js';
import { tokenize } from './tokenize/tokenize.service.js';
import { Engine } from './timing/engine.service.js';
import { SlicedTokenizer } from './tokenizer/tokenizer.service.js';

/** Told in heartbeats. */
const VERSION = 'sim-1';

export interface Edges {
  readonly logger: Logger;
  readonly publish: Publish;
  /** Ends the process as a crash would; a fault switch pulls it. */
  readonly crash: () => void;
}

/** One simulated worker: the composition root, and its beginning and end. */
export class Worker {
  private readonly config: SimWorkerConfig;
  private readonly machine: Machine;
  private readonly server: Server;
  private readonly generations: Generations;
  private readonly heartbeat: Heartbeat;
  private draining = false;

  constructor(config: SimWorkerConfig, { logger, publish, crash }: Edges) {
    this.config = config;
    const engine = new Engine(
      {
        slots: config.SLOTS,
        prefillTokensPerSecond: config.PREFILL_TOKENS_PER_SECOND,
        prefillOverheadMs: config.PREFILL_OVERHEAD_MS,
        decodeMs: config.DECODE_MS,
        decodeMsPerSequence: config.DECODE_MS_PER_SEQUENCE,
      },
      systemClock,
    );
    const cache = new PrefixCache(config.CACHE_BLOCK_TOKENS, config.CACHE_CAPACITY_TOKENS);
    const count = (model: string, running: boolean) =>
      [...engine.all()].filter((sequence) => sequence.model === model && sequence.running === running).length;
    const metrics = new WorkerMetrics(config.WORKER_MODELS, config.CACHE_BLOCK_TOKENS, cache.capacity, {
      running: (model) => count(model, true),
      waiting: (model) => count(model, false),
      kvCacheUsage: () => this.kvCacheUsage(),
    });
    this.machine = {
      limits: {
        models: config.WORKER_MODELS,
        maxModelLen: config.MAX_MODEL_LEN,
        slots: config.SLOTS,
        maxWaiting: config.MAX_WAITING,
      },
      engine,
      cache,
      metrics,
      tokenizer: new SlicedTokenizer(),
      faults: new FaultSwitch(config.FAULTS),
      log: new GenerationLog(config.WORKER_LOG),
      clock: systemClock,
      logger,
      crash,
    };
    this.generations = new Generations(this.machine);
    this.heartbeat = new Heartbeat(publish, () => this.told());
    this.server = this.routes(logger);
  }

  /** The URL under which it listens, without `/v1`. */
  get url(): string {
    const { address, port, family } = this.server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  async start(): Promise<void> {
    this.server.listen(this.config.PORT, this.config.HOST);
    await once(this.server, 'listening');
    this.heartbeat.start();
  }

  /** Takes nothing new, lets what runs end for `graceMs`, then cuts it and writes it down as aborted. */
  async stop(graceMs: number): Promise<void> {
    if (this.draining) return;
    this.draining = true;
    this.heartbeat.stop();
    const closed = once(this.server, 'close');
    this.server.close();
    // A connection that was busy at the close stays open for the next request: none comes any more.
    const idle = setInterval(() => this.server.closeIdleConnections(), 50);
    const deadline = setTimeout(() => {
      this.generations.abortAll();
      this.server.closeAllConnections();
    }, graceMs);
    await closed;
    clearInterval(idle);
    clearTimeout(deadline);
    this.machine.log.close();
  }

  private routes(logger: Logger): Server {
    const { machine, config } = this;
    const began = Math.floor(systemClock.now() / 1000);
    const embeddings = new Embeddings(machine, config.EMBEDDING_DIMENSIONS);
    const body = (exchange: Parameters<Handler>[0]) => readJson(exchange.request, config.MAX_BODY_BYTES);
    const generate =
      (protocol: Protocol): Handler =>
      async (exchange) =>
        this.generations.serve(protocol, await body(exchange), exchange);
    return workerServer(
      {
        '/v1/chat/completions': { POST: generate(completions(chatDialect)) },
        '/v1/completions': { POST: generate(completions(textDialect)) },
        '/v1/responses': { POST: generate(responsesProtocol) },
        '/v1/audio/transcriptions': {
          POST: async (exchange) => {
            const { stallUpload } = machine.faults.get();
            const form = await readForm(exchange.request, config.MAX_AUDIO_BYTES, stallUpload);
            await this.generations.serve(transcription(form), form, exchange);
          },
        },
        ...(config.WORKER_DIALECTS.includes('messages')
          ? {
              '/v1/messages': { POST: generate(messagesProtocol) },
              '/v1/messages/count_tokens': {
                POST: async (exchange: Parameters<Handler>[0]) => countTokens(machine, await body(exchange), exchange),
              },
            }
          : {}),
        '/v1/embeddings': { POST: async (exchange) => embeddings.serve(await body(exchange), exchange) },
        '/tokenize': { POST: async (exchange) => tokenize(machine, await body(exchange), exchange) },
        '/v1/models': {
          GET: (exchange) => exchange.json(200, modelList(config.WORKER_MODELS, config.MAX_MODEL_LEN, began)),
        },
        '/health': { GET: ({ response }) => void response.writeHead(this.draining ? 503 : 200).end() },
        '/metrics': {
          async GET({ response }) {
            const text = await machine.metrics.registry.metrics();
            response.writeHead(200, { 'content-type': machine.metrics.registry.contentType }).end(text);
          },
        },
        ...faultRoutes(machine.faults, config.MAX_BODY_BYTES),
      },
      config.WORKER_SECRET,
      logger,
    );
  }

  private kvCacheUsage(): number {
    let held = 0;
    for (const sequence of this.machine.engine.all()) held += sequence.heldTokens();
    return Math.min(1, held / this.config.CACHE_CAPACITY_TOKENS);
  }

  private told(): WorkerHeartbeat {
    const { config } = this;
    return {
      id: config.WORKER_ID,
      url: config.WORKER_URL ?? this.url,
      models: config.WORKER_MODELS.map((id) => ({ id, maxModelLen: config.MAX_MODEL_LEN })),
      slots: config.SLOTS,
      running: this.machine.engine.running,
      waiting: this.machine.engine.waiting,
      kvCacheUsage: this.kvCacheUsage(),
      cacheCapacityTokens: config.CACHE_CAPACITY_TOKENS,
      version: VERSION,
      dialects: config.WORKER_DIALECTS,
    };
  }
}

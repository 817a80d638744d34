import { Counter, Gauge, Histogram, Registry } from 'prom-client';

const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];
const FIRST_TOKEN = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const BETWEEN_TOKENS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const WHOLE = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1_920, 7_680];

/** Read when somebody asks. */
export interface Load {
  running(model: string): number;
  waiting(model: string): number;
  /** 0…1 */
  kvCacheUsage(): number;
}

/** vLLM's metrics under vLLM's names and labels, as far as the simulation has what they measure. */
export class WorkerMetrics {
  readonly registry = new Registry();
  private readonly prefixQueries = this.counter('prefix_cache_queries', 'Prompt tokens looked up in the prefix cache.');
  private readonly prefixHits = this.counter('prefix_cache_hits', 'Prompt tokens found in the prefix cache.');
  private readonly promptTokens = this.counter('prompt_tokens', 'Prompt tokens processed.');
  private readonly generationTokens = this.counter('generation_tokens', 'Tokens generated.');
  private readonly success = this.counter('request_success', 'Requests ended, by reason.', ['finished_reason']);
  private readonly ttft = this.histogram('time_to_first_token_seconds', 'Time to the first token.', FIRST_TOKEN);
  private readonly itl = this.histogram('inter_token_latency_seconds', 'Time between tokens.', BETWEEN_TOKENS);
  private readonly e2e = this.histogram('e2e_request_latency_seconds', 'Arrival to last token.', WHOLE);
  private readonly queue = this.histogram('request_queue_time_seconds', 'Time in the queue.', WHOLE);
  private readonly inference = this.histogram('request_inference_time_seconds', 'Time in a slot.', WHOLE);
  private readonly requestPrompt = this.histogram('request_prompt_tokens', 'Prompt tokens of a request.', TOKENS);
  private readonly requestGenerated = this.histogram('request_generation_tokens', 'Tokens of an answer.', TOKENS);

  constructor(models: readonly string[], blockTokens: number, blocks: number, load: Load) {
    const each = (name: string, help: string, read: (model: string) => number) => {
      const gauge = new Gauge({
        name: `vllm:${name}`,
        help,
        labelNames: ['model_name', 'engine'],
        registers: [this.registry],
        collect: () => {
          for (const model of models) gauge.set(labels(model), read(model));
        },
      });
    };
    each('num_requests_running', 'Sequences in a slot.', (model) => load.running(model));
    each('num_requests_waiting', 'Sequences in the queue.', (model) => load.waiting(model));
    each('kv_cache_usage_perc', 'KV cache used by what runs; 1 means 100 percent.', () => load.kvCacheUsage());
    new Gauge({
      name: 'vllm:cache_config_info',
      help: 'Configuration of the cache.',
      labelNames: ['block_size', 'num_gpu_blocks', 'engine'],
      registers: [this.registry],
    }).set({ block_size: String(blockTokens), num_gpu_blocks: String(blocks), engine: '0' }, 1);
    for (const model of models) {
      for (const counter of [this.prefixQueries, this.prefixHits, this.promptTokens, this.generationTokens]) {
        counter.inc(labels(model), 0);
      }
      for (const reason of ['stop', 'length', 'abort'])
        this.success.inc({ ...labels(model), finished_reason: reason }, 0);
    }
  }

  admitted(model: string, seen: { queuedMs: number; promptTokens: number; cached: number }): void {
    this.queue.observe(labels(model), seen.queuedMs / 1000);
    this.prefixQueries.inc(labels(model), seen.promptTokens);
    this.prefixHits.inc(labels(model), seen.cached);
    this.promptTokens.inc(labels(model), seen.promptTokens);
  }

  /** @param seen since the arrival for the first token, since the one before for others */
  token(model: string, seen: { first: boolean; sinceMs: number }): void {
    this.generationTokens.inc(labels(model));
    (seen.first ? this.ttft : this.itl).observe(labels(model), seen.sinceMs / 1000);
  }

  finished(
    model: string,
    reason: 'stop' | 'length' | 'abort',
    seen?: { promptTokens: number; generated: number; wholeMs: number; runningMs: number },
  ): void {
    this.success.inc({ ...labels(model), finished_reason: reason });
    if (seen === undefined) return;
    this.requestPrompt.observe(labels(model), seen.promptTokens);
    this.requestGenerated.observe(labels(model), seen.generated);
    this.e2e.observe(labels(model), seen.wholeMs / 1000);
    this.inference.observe(labels(model), seen.runningMs / 1000);
  }

  private counter(name: string, help: string, more: string[] = []): Counter {
    return new Counter({
      name: `vllm:${name}_total`,
      help,
      labelNames: ['model_name', 'engine', ...more],
      registers: [this.registry],
    });
  }

  private histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({
      name: `vllm:${name}`,
      help,
      buckets,
      labelNames: ['model_name', 'engine'],
      registers: [this.registry],
    });
  }
}

const labels = (model: string) => ({ model_name: model, engine: '0' });

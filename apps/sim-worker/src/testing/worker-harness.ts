import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import type { GenerationRecord } from '../log/generation-log.service.js';
import { simWorkerConfig } from '../sim-worker.config.js';
import { Worker } from '../worker.service.js';

export const SECRET = 'a-secret-for-tests-only';
export const MODEL = 'demo/small';

export interface Harness {
  readonly worker: Worker;
  readonly url: string;
  readonly published: { subject: string; body: unknown }[];
  readonly crashes: { count: number };
  records(): GenerationRecord[];
  /** Waits until the log has so many lines. */
  recorded(count: number): Promise<GenerationRecord[]>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  faults(faults: unknown): Promise<void>;
  metric(line: string): Promise<number | undefined>;
  stop(): Promise<void>;
}

/** @throws Error when it does not come to hold, however slow the machine */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 60_000; !(await condition()); await sleep(10))
    if (performance.now() > end) throw new Error(`never: ${condition.toString()}`);
}

/** A worker on a free port, fast unless told otherwise. */
export async function startWorker(env: Record<string, string> = {}): Promise<Harness> {
  const folder = mkdtempSync(join(tmpdir(), 'sim-worker-'));
  const log = join(folder, 'generated.ndjson');
  const published: Harness['published'] = [];
  const crashes = { count: 0 };
  const config = simWorkerConfig({
    PORT: '0',
    WORKER_ID: 'w1',
    WORKER_SECRET: SECRET,
    WORKER_MODELS: `${MODEL},demo/other`,
    WORKER_LOG: log,
    PREFILL_OVERHEAD_MS: '0',
    PREFILL_TOKENS_PER_SECOND: '1000000',
    DECODE_MS: '0',
    DECODE_MS_PER_SEQUENCE: '0',
    ...env,
  });
  const worker = new Worker(config, {
    logger: pino({ level: 'silent' }),
    publish: (subject, bytes) => {
      published.push({ subject, body: JSON.parse(Buffer.from(bytes).toString()) });
      return true;
    },
    crash: () => void crashes.count++,
  });
  await worker.start();
  const { url } = worker;
  const records = () =>
    readFileSync(log, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as GenerationRecord);
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${SECRET}`, 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    });
  return {
    worker,
    url,
    published,
    crashes,
    records,
    async recorded(count) {
      await until(() => records().length >= count);
      return records();
    },
    post,
    async faults(faults) {
      const answer = await post('/sim/faults', faults);
      if (!answer.ok) throw new Error(`faults: ${answer.status} ${await answer.text()}`);
    },
    async metric(line) {
      const text = await (await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(60_000) })).text();
      const found = text.split('\n').find((one) => one.startsWith(`${line} `));
      return found === undefined ? undefined : Number(found.slice(line.length + 1));
    },
    async stop() {
      await worker.stop(0);
      rmSync(folder, { recursive: true });
    },
  };
}

// A whole Sluice behind whose router stands the hostile worker, and what has to be true of it at the end.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { meteringBook, billingBook } from '../../bench/gateway/counters.ts';
import { credit } from '../../bench/gateway/keys.ts';
import { Processes } from '../../bench/gateway/processes.ts';
import { PlayedWorker } from '../../played-worker.ts';
import { call, eventually, startTestStack, type TestStack } from '../../stack.ts';
import type { Keys } from './case.ts';
import type { Script } from './scripts.ts';
import { follow } from './worker.ts';

/** So many that the ones which are left alone for a while, as they failed, are few. */
const WORKERS = 400;
/** As high as they go: the credit, and not a limit, is what a request meets. */
const HIGH = { rpm: 10_000_000, tpm: 1_000_000_000, concurrency: 10_000 };
const BOOKED_MS = 120_000;

export class World {
  readonly stack: TestStack;
  /** What the worker says, by the id of the case. */
  readonly scripts: Map<string, Script>;
  private readonly worker: PlayedWorker;
  readonly keys: Keys;
  readonly port: number;

  private constructor(stack: TestStack, worker: PlayedWorker, scripts: Map<string, Script>, keys: Keys) {
    this.stack = stack;
    this.scripts = scripts;
    this.worker = worker;
    this.keys = keys;
    this.port = Number(new URL(stack.baseUrl).port);
  }

  static async start(): Promise<World> {
    const stack = await startTestStack({
      workers: 0,
      prefer: 'local',
      // One segment that is never forgotten: it is read at the end.
      serviceEnv: { gateway: { JOURNAL_SEGMENT_BYTES: String(2 ** 40) } },
    });
    const scripts = new Map<string, Script>();
    let worker: PlayedWorker | undefined;
    try {
      worker = await PlayedWorker.start({ stack, count: WORKERS, answer: (asked) => void follow(scripts, asked) });
      await credit(stack);
      const good = await makeKey(stack, HIGH);
      const limited = await makeKey(stack, { ...HIGH, rpm: 1 });
      const revoked = await makeKey(stack, HIGH);
      const gone = await call(stack.baseUrl, stack.demo.managementKey, 'DELETE', `/api/keys/${revoked.id}`);
      if (gone.status !== 200) throw new Error(`deleting a key: ${gone.status}`);
      const keys = {
        good: good.secret,
        limited: limited.secret,
        revoked: revoked.secret,
        management: stack.demo.managementKey,
      };
      await eventually(async () => (await ask(stack, good.secret)) === 200);
      return new World(stack, worker, scripts, keys);
    } catch (error) {
      await worker?.stop();
      await stack.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.worker.stop();
    await this.stack.stop();
  }

  /** Resident bytes of gateway and router. */
  memory(): { gateway: number; router: number } {
    const table = new Processes();
    const { gateway, router } = this.stack.services;
    return { gateway: table.usage(gateway.pid ?? 0).rss, router: table.usage(router.pid ?? 0).rss };
  }

  get restarts(): number {
    return Object.values(this.stack.services).reduce((sum, { restarts }) => sum + restarts, 0);
  }

  /** Lines of the level error and above in the logs of gateway, router, metering and billing. */
  complaints(): string[] {
    return ['gateway', 'router', 'metering', 'billing', 'auth'].flatMap((name) =>
      readFileSync(join(this.stack.dir, 'logs', `${name}.log`), 'utf8')
        .split('\n')
        .filter((line) => /"level":(?:50|60|"error"|"fatal")/.test(line) || /^\w*Error\b/.test(line))
        .map((line) => `${name}: ${line.slice(0, 600)}`),
    );
  }

  /** A counter of the gateway, summed over the series whose labels match. */
  async counted(name: string, labels = /./): Promise<number> {
    const text = await (await fetch(`${this.stack.urls.gateway}/metrics`)).text();
    return text
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) && labels.test(line))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  /** Waits until nothing is in flight and everything is booked, then says what does not agree. */
  async books(): Promise<Books> {
    await eventually(async () => (await this.counted('gateway_requests_open')) === 0, BOOKED_MS);
    const { opens, ends, faults } = readJournal(join(this.stack.dir, 'journal'));
    const records = (book: { records: number; quarantined: number }) => book.records + book.quarantined >= ends;
    await eventually(
      async () => records(await meteringBook(this.stack)) && records(await billingBook(this.stack)),
      BOOKED_MS,
    ).catch(() => {});
    const [metering, billing] = await Promise.all([meteringBook(this.stack), billingBook(this.stack)]);
    return { opens, ends, faults, metering, billing };
  }
}

export interface Books {
  readonly opens: number;
  readonly ends: number;
  readonly faults: readonly string[];
  readonly metering: Awaited<ReturnType<typeof meteringBook>>;
  readonly billing: Awaited<ReturnType<typeof billingBook>>;
}

/** Every OPEN has one END, and no END is without its OPEN. */
function readJournal(root: string): Pick<Books, 'opens' | 'ends' | 'faults'> {
  const opened = new Set<string>();
  const ended = new Set<string>();
  const faults: string[] = [];
  for (const path of readdirSync(root, { recursive: true }).map((name) => join(root, String(name)))) {
    if (!statSync(path).isFile()) continue;
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      if (line.startsWith('O ')) opened.add((JSON.parse(line.slice(2)) as { requestId: string }).requestId);
      const id = /^E \d+ (\S+) /.exec(line)?.[1];
      if (id === undefined) continue;
      if (ended.has(id)) faults.push(`${id} has two ENDs`);
      if (!opened.has(id)) faults.push(`${id} has an END and no OPEN`);
      ended.add(id);
    }
  }
  for (const id of opened) if (!ended.has(id)) faults.push(`${id} has no END`);
  return { opens: opened.size, ends: ended.size, faults };
}

async function makeKey({ baseUrl, demo }: TestStack, limits: object): Promise<{ id: string; secret: string }> {
  const body = { name: 'fuzz', scopes: ['inference:read', 'inference:write'], ...limits };
  const made = await call<{ data: { id: string; apiKey: string } }>(
    baseUrl,
    demo.managementKey,
    'POST',
    '/api/keys/credit',
    body,
  );
  if (made.status >= 300) throw new Error(`making a key: ${made.status} ${JSON.stringify(made.body)}`);
  return { id: made.body.data.id, secret: made.body.data.apiKey };
}

async function ask({ baseUrl, models }: TestStack, key: string): Promise<number> {
  const body = { model: models[0], messages: [{ role: 'user', content: 'Hi' }] };
  return (await call(baseUrl, key, 'POST', '/v1/chat/completions', body)).status;
}

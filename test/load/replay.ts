// npm run replay: a public production trace through gateway, router and workers, then four accounts of it side by side,
// each read from its own place: the trace and the price list, the workers' own logs, metering, and the ledger.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Price } from '@sluice/contracts/billing';
import { formatUsd } from '@sluice/primitives/money';
import { ledgerBook, meteringBook } from './replay/books.ts';
import { DemoError, readDemo, type Demo } from './replay/demo.ts';
import { createKeys, readAvailable, readPriceList } from './replay/management.ts';
import { readOptions, USAGE, UsageError, type ReplayOptions } from './replay/options.ts';
import { costAt } from './replay/price.ts';
import { progressOf } from './replay/progress.ts';
import { reconcile, type Facts, type Figures } from './replay/reconcile.ts';
import { report, summary } from './replay/report.ts';
import { orderOf, sendAll, type Timed } from './replay/send.ts';
import { settle } from './replay/settle.ts';
import { defaultSpeed, readTrace, TraceError, type TraceRow } from './replay/trace.ts';
import { readWorkerLogs } from './replay/worker-logs.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

async function main(options: ReplayOptions): Promise<boolean> {
  const demo = readDemo(options.demo);
  const rows = readTrace(readFileSync(options.trace, 'utf8'), options.requests);
  const models = demo.models.slice(0, options.models);
  if (models.length < (options.models ?? 0)) throw new UsageError(`there are ${models.length} models`);
  const speed = options.speed ?? defaultSpeed(rows);
  const prices = await readPriceList(demo);
  await refuseWithoutCredit(demo, rows, models, prices);

  const run = randomBytes(4).readUInt32LE(0);
  const keys = await createKeys(demo, run.toString(16).padStart(8, '0'), options.keys);
  const span = (rows.at(-1)!.at / speed / 1000).toFixed(1);
  console.log(
    `${rows.length} requests on ${keys.length} keys and ${models.length} models to ${demo.baseUrl}, ` +
      `arriving within ${span} s (${speed.toFixed(2)} times as fast as they came)`,
  );
  const began = performance.now();
  const sent = await send(demo, rows, { keys, models, speed, run, options });
  const sentSeconds = (performance.now() - began) / 1000;

  const metering = meteringBook(demo.backing.postgresUrls.metering);
  const ledger = ledgerBook(demo.backing.postgresUrls.billing);
  const keyIds = keys.map(({ id }) => id);
  const answered = sent.filter(({ answer }) => answer !== undefined);
  await settle({
    metering,
    ledger,
    keyIds,
    answeredIds: answered.flatMap(({ requestId }) => requestId ?? []),
    unanswered: sent.length - answered.length,
    limitMs: options.settle * 1000,
  });
  const result = reconcile(sent, {
    trace: traceFigures(sent, prices),
    workers: await workerLines(demo, sent, prices, await metering.read(keyIds)),
    metering: await metering.read(keyIds),
    ledger: await ledger.read(keyIds),
  });
  const figures = {
    ...summary(result),
    keys: keys.length,
    models,
    speed: Number(speed.toFixed(3)),
    seconds: Number(sentSeconds.toFixed(1)),
    settledAfter: Number(((performance.now() - began) / 1000 - sentSeconds).toFixed(1)),
  };
  console.log(`\n${report(result)}\n`);
  const line = JSON.stringify(figures);
  if (options.json !== undefined) writeFileSync(options.json, `${line}\n`);
  console.log(line);
  return result.ok;
}

interface Sending {
  readonly keys: Awaited<ReturnType<typeof createKeys>>;
  readonly models: readonly string[];
  readonly speed: number;
  readonly run: number;
  readonly options: ReplayOptions;
}

async function send(demo: Demo, rows: readonly TraceRow[], sending: Sending): Promise<Timed[]> {
  const { keys, models, speed, run, options } = sending;
  const progress = progressOf('sending', rows.length);
  let done = 0;
  let failed = 0;
  const sent = await sendAll(
    rows.map((row) => orderOf(row, keys, models)),
    {
      baseUrl: demo.baseUrl,
      run,
      speed,
      concurrency: options.concurrency,
      timeoutMs: options.timeout * 1000,
      onDone({ answer }) {
        if (answer === undefined) failed++;
        progress.set(++done, failed === 0 ? '' : `${failed} unanswered`);
      },
    },
  );
  progress.end();
  return sent;
}

/** What runs out of credit in the middle would be cut or absorbed, and say nothing of the books. */
async function refuseWithoutCredit(demo: Demo, rows: readonly TraceRow[], models: readonly string[], prices: Price[]) {
  const now = Date.now();
  const cost = rows.reduce((sum, row) => {
    const model = models[row.index % models.length]!;
    return sum + costAt(prices, model, now, { input: row.contextTokens, cached: 0, output: row.generatedTokens });
  }, 0n);
  const available = await readAvailable(demo);
  if (available >= cost) return;
  throw new DemoError(
    `the run costs ${formatUsd(cost)} USD and the organization has ${formatUsd(available)}: ` +
      'grant more with POST /api/operator/credits, or send fewer --requests',
  );
}

/** Tokens as the trace has them, money by the price list. Only how much was cached the trace can't know. */
function traceFigures(sent: readonly Timed[], prices: readonly Price[]): Facts['trace'] {
  return new Map(
    sent.map(({ row, model, sentAt, answer }): [number, Figures] => {
      const tokens = { input: row.contextTokens, cached: answer?.usage?.cached ?? 0, output: row.generatedTokens };
      const pico = costAt(prices, model, sentAt, tokens);
      return [row.index, { input: BigInt(tokens.input), output: BigInt(tokens.output), pico }];
    }),
  );
}

/** Tokens as the workers' own logs have them, money by the price list. */
async function workerLines(
  demo: Demo,
  sent: readonly Timed[],
  prices: readonly Price[],
  metered: ReadonlyMap<string, Figures>,
): Promise<Facts['workers']> {
  const sentAt = new Map(sent.map((one) => [one.requestId, one.sentAt]));
  const lines = await readWorkerLogs(
    demo.workers.map(({ log }) => log),
    (requestId) => sentAt.has(requestId) || metered.has(requestId),
  );
  return lines.map((line) => {
    const tokens = { input: line.promptTokens, cached: line.cachedTokens, output: line.completionTokens };
    const at = sentAt.get(line.requestId.slice(0, line.requestId.lastIndexOf('.'))) ?? Date.parse(line.time);
    const pico = costAt(prices, line.model, at, tokens);
    return {
      requestId: line.requestId,
      figures: { input: BigInt(tokens.input), output: BigInt(tokens.output), pico },
    };
  });
}

try {
  const options = readOptions(process.argv.slice(2), ROOT);
  if (options === undefined) console.log(USAGE);
  else process.exitCode = (await main(options)) ? 0 : 1;
} catch (error) {
  const expected = [UsageError, DemoError, TraceError].some((kind) => error instanceof kind);
  console.error(expected ? (error as Error).message : error);
  if (error instanceof UsageError) console.error(`\n${USAGE}`);
  process.exitCode = 1;
}

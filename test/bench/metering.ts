// Metering at volume: a steady rate of records with some of them twice, once of many organizations and once of one key, and how long
// a summary takes where there are millions of them.
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '@sluice/messaging';
import type { Goal, Program, Run } from '../prove/runner/program.ts';
import { UsageError, wholeNumber } from '../prove/runner/program.ts';
import { call, startTestStack, type TestStack } from '../stack.ts';
import { MemoryWatch } from './gateway/memory.ts';
import { Processes } from './gateway/processes.ts';
import { sluiceProcesses } from './gateway/systems.ts';
import { bookedRecords, readBooks, TABLES, type Books } from './metering/books.ts';
import { sendLoad, type LoadResult } from './metering/load.ts';
import type { Owner, Sums } from './metering/records.ts';
import { DAYS, summaries } from './metering/summary.ts';

const ORGANIZATIONS = 1_000;
const KEYS = 4;
const VISIBLE_MS = 2_000;
const SUMMARY_P99_MS = 100;
/** Code that has never run is slow, and so are tables that are empty: they count from then on. */
const WARM_UP_SECONDS = 5;
const DRAIN_MS = 120_000;
const PARTS = ['many', 'one', 'summary'] as const;
type Part = (typeof PARTS)[number];

export const program: Program = {
  about: 'usage at volume: records a second into raw and rollups, each once; until it is seen; a summary of 90 days',
  options: {
    parts: { type: 'string', default: PARTS.join(',') },
    rate: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '60' },
    records: { type: 'string', default: '10000000' },
    queries: { type: 'string', default: '300' },
  },
  usage: [
    `  --parts X    of ${PARTS.join(', ')}: ${ORGANIZATIONS} organizations with ${KEYS} keys each, one key, and summaries`,
    '  --rate N     records a second, a tenth of them once more (10000)',
    '  --seconds N  for each of the first two (60)',
    '  --records N  that are there when the summaries are asked for (10000000)',
    '  --queries N  summaries (300)',
  ].join('\n'),
  async run(run) {
    const { values, say, stopping } = run;
    const parts = readParts(String(values['parts']));
    const rate = wholeNumber('rate', values['rate'], 100, 1_000_000);
    const seconds = wholeNumber('seconds', values['seconds'], 5, 3_600);
    const records = wholeNumber('records', values['records'], 1_000, 1_000_000_000);
    const queries = wholeNumber('queries', values['queries'], 10, 100_000);
    const stack = await startTestStack({
      workers: 1,
      prefer: 'local',
      serviceEnv: { metering: { RETENTION_DAYS: String(DAYS + 30) } },
    });
    try {
      // What is measured is metering, with PostgreSQL and NATS: billing books the same records, and has figures of its own.
      await stack.services.billing.stop();
      const figures: Record<string, unknown> = {};
      const goals: Record<string, Goal> = {};
      for (const part of ['many', 'one'] as const) {
        if (!parts.includes(part) || stopping.aborted) continue;
        say(`${part}: ${rate} records a second for ${seconds} s`);
        await load(run, stack, part, rate, WARM_UP_SECONDS);
        const { one, its } = await load(run, stack, part, rate, seconds);
        figures[part] = one;
        for (const [name, goal] of Object.entries(its)) goals[`${part}.${name}`] = goal;
        say(JSON.stringify(one));
      }
      if (parts.includes('summary') && !stopping.aborted) {
        const { organizationId, managementKey } = stack.demo;
        const databaseUrl = stack.databases.metering;
        const asking = {
          databaseUrl,
          baseUrl: stack.baseUrl,
          organizationId,
          managementKey,
          records,
          queries,
          stopping,
        };
        const summary = await summaries(asking);
        figures['summary'] = summary;
        const { p99Ms, answered, expected } = summary;
        goals['summary.p99Ms'] = { goal: `< ${SUMMARY_P99_MS}`, value: p99Ms, ok: p99Ms < SUMMARY_P99_MS };
        goals['summary.requests'] = { goal: String(expected), value: answered, ok: answered === expected };
      }
      return { figures, goals };
    } finally {
      await stack.stop();
    }
  },
};

function readParts(text: string): Part[] {
  const parts = text.split(',');
  const unknown = parts.find((part) => !(PARTS as readonly string[]).includes(part));
  if (unknown !== undefined) throw new UsageError(`--parts ${unknown}: there are ${PARTS.join(', ')}`);
  return parts as Part[];
}

async function load(
  { random, stopping }: Run,
  stack: TestStack,
  part: 'many' | 'one',
  perSecond: number,
  seconds: number,
) {
  const { organizationId, managementKey } = stack.demo;
  const others = Array.from({ length: ORGANIZATIONS }, (_, i) =>
    i === 0 ? organizationId : `bench-organization-${i}`,
  );
  const ownerOf = (n: number): Owner => {
    const owner = part === 'one' ? organizationId : others[n % ORGANIZATIONS]!;
    const key = part === 'one' ? 0 : Math.floor(n / ORGANIZATIONS) % KEYS;
    return { organizationId: owner, keyId: `${owner}-${key}` };
  };
  const seen = async (): Promise<number> => {
    const { body } = await call<{ data: { requestCount: number | string }[] }>(
      stack.baseUrl,
      managementKey,
      'GET',
      '/api/usage?granularity=day',
    );
    return body.data.reduce((sum, { requestCount }) => sum + Number(requestCount), 0);
  };
  const messaging = connect({ url: stack.natsUrl('gateway'), name: 'bench' });
  try {
    await messaging.whenConnected(30_000);
    const before = await readBooks(stack.databases.metering);
    const pids = sluiceProcesses(stack);
    const watch = new MemoryWatch(() => ({ metering: pids['metering']! }));
    const cpuBefore = cpuOf(pids);
    const began = performance.now();
    const sent = await sendLoad(messaging, {
      perSecond,
      seconds,
      ownerOf,
      watched: organizationId,
      seen,
      random,
      stopping,
    });
    const booked = await drained(stack.databases.metering, before, sent.sums.records);
    const took = (performance.now() - began) / 1000;
    const cpu = cpuOf(pids);
    const memory = watch.stop()['metering'];
    const books = await readBooks(stack.databases.metering);
    return judge({ perSecond, sent, booked, took, books, before, memory, cpu, cpuBefore });
  } finally {
    await messaging.close();
  }
}

/** Waits until everything is booked. @returns records that are */
async function drained(databaseUrl: string, before: Books, records: number): Promise<number> {
  for (const until = performance.now() + DRAIN_MS; ; await sleep(100)) {
    const booked = (await bookedRecords(databaseUrl)) - before.usage_by_day.records;
    if (booked >= records || performance.now() > until) return booked;
  }
}

interface Measured {
  readonly perSecond: number;
  readonly sent: LoadResult;
  readonly booked: number;
  readonly took: number;
  readonly books: Books;
  readonly before: Books;
  readonly memory: ReturnType<MemoryWatch['stop']>[string] | undefined;
  readonly cpu: Readonly<Record<string, number>>;
  readonly cpuBefore: Readonly<Record<string, number>>;
}

function judge({ perSecond, sent, booked, took, books, before, memory, cpu, cpuBefore }: Measured) {
  const { sums, twice, unseenMs } = sent;
  const sorted = unseenMs.toSorted((a, b) => a - b);
  const visible = {
    p50: sorted[sorted.length >> 1],
    p99: sorted[Math.floor(sorted.length * 0.99)],
    max: sorted.at(-1),
  };
  const us = Object.fromEntries(
    Object.entries(cpu).map(([name, ms]) => [name, Math.round((10_000 * (ms - cpuBefore[name]!)) / sums.records) / 10]),
  );
  const cores = Math.round((cpu['metering']! - cpuBefore['metering']!) / took / 10) / 100;
  const rate = Math.round(booked / took);
  const none: Sums = { records: 0, inputTokens: 0, cachedInputTokens: 0, outputTokens: 0 };
  const wrong = TABLES.filter((table) => {
    const [was, is] = [before[table] ?? none, books[table]];
    return (['records', 'inputTokens', 'outputTokens', 'cachedInputTokens'] as const).some(
      (field) => is[field] - was[field] !== sums[field] && !(table === 'key_totals' && field === 'cachedInputTokens'),
    );
  });
  const one = {
    sent: sums.records,
    twice,
    seconds: took,
    recordsPerSecond: rate,
    cpuUsPerRecord: us,
    meteringCores: cores,
    visibleMs: visible,
    memory,
  };
  const its: Record<string, Goal> = {
    // What is still on its way when the load ends is booked a moment later, and counted by then.
    recordsPerSecond: {
      goal: `≥ ${perSecond} (within 2 s of the end)`,
      value: rate,
      ok: booked === sums.records && took <= sent.seconds + 2,
    },
    visibleP99Ms: { goal: `≤ ${VISIBLE_MS}`, value: visible.p99, ok: (visible.p99 ?? Infinity) <= VISIBLE_MS },
    onceEach: {
      goal: `the same sums in ${TABLES.join(', ')}`,
      value: wrong.length === 0 ? 'yes' : wrong,
      ok: wrong.length === 0,
    },
    meteringCores: { goal: '≤ 1', value: cores, ok: cores <= 1 },
    memoryFlat: { goal: 'no growth', value: memory, ok: memory?.flat ?? false },
  };
  return { one, its };
}

const cpuOf = (pids: Readonly<Record<string, number>>): Record<string, number> => {
  const table = new Processes();
  return Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, table.usage(pid).cpuMs]));
};

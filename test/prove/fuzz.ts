// npm run prove -- fuzz: whatever clients and workers send, nobody gets an error of our own, and nothing dies or grows.
import * as fc from 'fast-check';
import { progressOf } from '../load/replay/progress.ts';
import { converse } from './fuzz/client.ts';
import { judge } from './fuzz/judge.ts';
import { properties } from './fuzz/pure.ts';
import { bodies } from './fuzz/bodies.ts';
import type { Kind, Plan } from './fuzz/case.ts';
import { plan } from './fuzz/requests.ts';
import { World, type Books } from './fuzz/world.ts';
import { wholeNumber, type Goal, type Program, type Run, type Verdict } from './runner/program.ts';

/** Over real HTTP, to and from real processes; at most so many of the cases. */
const HTTP_SHARE = 0.25;
const AT_ONCE = 16;
/** Between two looks at the memory. */
const LOOK_MS = 500;
const MB = 1e6;
/** What V8 keeps for later is no growth; a leak of a few kB per request is more than this in a long run. */
const MAX_GROWTH_MB = 96;
const SHOWN = 20;
const MAX_SHRINKS = 60;

export const program: Program = {
  about: 'hostile clients and workers: no error of our own, no crash, no growth, and the books agree',
  options: { cases: { type: 'string', default: '100000' }, http: { type: 'string' } },
  usage: `  --cases N      in all (100000)
  --http N       of them over HTTP, through a real gateway and router to a hostile worker (a quarter); the others go to the
                 parts that read what others wrote, in this process`,
  async run(run) {
    const cases = wholeNumber('cases', run.values['cases'], 10, 100_000_000);
    const http = wholeNumber('http', run.values['http'] ?? String(Math.ceil(cases * HTTP_SHARE)), 0, cases);
    const read = await fuzzReaders(run, cases - http);
    const found = http === 0 || run.stopping.aborted ? undefined : await fuzzProcesses(run, http);
    const faults = [...read.faults, ...(found?.faults ?? [])];
    for (const fault of faults.slice(0, SHOWN)) run.say(`✗ ${fault}`);
    return {
      figures: {
        cases: read.cases + (found?.cases ?? 0),
        inProcess: read.cases,
        http: found?.cases ?? 0,
        ...found?.figures,
      },
      goals: { faults: goal('no counterexample', faults.length, faults.length === 0), ...found?.goals },
    };
  },
};

/** @returns how many cases were run, and a line for each property that does not hold */
async function fuzzReaders(
  { random, say, stopping }: Run,
  cases: number,
): Promise<{ cases: number; faults: string[] }> {
  const all = await properties(bodies);
  const shares = all.reduce((sum, [, share]) => sum + share, 0);
  const faults: string[] = [];
  let done = 0;
  for (const [name, share, property] of all) {
    if (stopping.aborted) break;
    const numRuns = Math.ceil((cases * share) / shares);
    const began = performance.now();
    const details = fc.check(property, { seed: random.fork(name).seed | 0, numRuns });
    done += details.numRuns;
    if (details.failed) faults.push(`${name}: ${describe(details)}`);
    say(`${details.failed ? '✗' : '✓'} ${details.numRuns} × ${name} in ${Math.round(performance.now() - began)} ms`);
  }
  return { cases: done, faults };
}

const describe = ({
  counterexample,
  errorInstance,
  counterexamplePath,
  seed,
  numShrinks,
}: fc.RunDetails<unknown[]>): string =>
  `${fc.stringify(counterexample).slice(0, 1_500)}\n  ${String((errorInstance as Error | null)?.stack).slice(0, 1_000)}\n  (shrunk ${numShrinks} times; seed ${seed}, path ${counterexamplePath})`;

async function fuzzProcesses(run: Run, cases: number): Promise<Verdict & { cases: number; faults: string[] }> {
  run.say('starting PostgreSQL, NATS, Redis, five services and a hostile worker');
  const world = await World.start();
  try {
    const pids = JSON.stringify(pidsOf(world));
    const samples: { gateway: number; router: number }[] = [];
    const watch = setInterval(() => samples.push(world.memory()), LOOK_MS);
    const { done, kinds, faults, statuses } = await play(world, run, cases);
    clearInterval(watch);
    samples.push(world.memory());
    run.say('everything is sent; waiting for the books');
    const own = await world.counted('gateway_inference_requests_total', /result="internal_error"/);
    const lost = await world.counted('gateway_refusals_total', /explanation="lost"/);
    const books = await world.books();
    const complaints = world.complaints();
    for (const line of complaints.slice(0, SHOWN)) run.say(`✗ ${line}`);
    const memory = { gateway: growth(samples, 'gateway'), router: growth(samples, 'router') };
    const same = world.restarts === 0 && JSON.stringify(pidsOf(world)) === pids;
    return {
      cases: done,
      faults,
      figures: {
        kinds,
        statuses,
        memoryMB: memory,
        books: { ...books, faults: books.faults.length },
      },
      goals: {
        ownErrors: goal('no internal_error', own, own === 0),
        complaints: goal('no line of the level error in any log', complaints.length, complaints.length === 0),
        crashes: goal('every process is the one that was started', world.restarts, same),
        memory: goal(
          `no process grows by ${MAX_GROWTH_MB} MB`,
          memory,
          Object.values(memory).every(({ grown }) => grown <= MAX_GROWTH_MB),
        ),
        journal: goal('one END for every OPEN', books.faults.slice(0, 3), books.faults.length === 0 && books.ends > 0),
        books: goal('metering and billing have every END, and nothing set aside', booksShort(books), agree(books)),
        explained: goal('no refusal is lost on its way to auth', lost, lost === 0),
      },
    };
  } finally {
    await world.stop();
  }
}

/** Some lanes at once, each with its own part of the cases, shrinking its own counterexample. */
async function play(world: World, { random, stopping }: Run, cases: number) {
  const kinds: Partial<Record<Kind, number>> = {};
  const statuses: Record<string, number> = {};
  const progress = progressOf('over HTTP', cases);
  let done = 0;
  let names = 0;
  const one = async (make: Plan): Promise<void> => {
    const id = (names++).toString(36);
    const made = make(id, world.keys);
    if (made.script) world.scripts.set(id, made.script);
    const heard = await converse(world.port, made.sending, made.method === 'HEAD');
    world.scripts.delete(id);
    kinds[made.kind] = (kinds[made.kind] ?? 0) + 1;
    const status = String(heard.status ?? 'none');
    statuses[status] = (statuses[status] ?? 0) + 1;
    progress.set(
      ++done,
      Object.entries(kinds)
        .map(([kind, n]) => `${kind} ${n}`)
        .join(', '),
    );
    const fault = judge(made, heard);
    if (fault !== undefined) throw new Error(`${made.kind}: ${fault}\n  ${made.what}`);
  };
  const lanes = Array.from({ length: Math.min(AT_ONCE, cases) }, async (_, lane) => {
    const numRuns = Math.floor(cases / AT_ONCE) + (lane < cases % AT_ONCE ? 1 : 0);
    let shrinks = 0;
    let failed = false;
    const property = fc.asyncProperty(plan, async (make) => {
      // A smaller case may take seconds, and there is no end of them.
      if (stopping.aborted || (failed && ++shrinks > MAX_SHRINKS)) return;
      await one(make).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    });
    const { seed } = random.fork(`lane ${lane}`);
    return fc.check(property, { seed: seed | 0, numRuns });
  });
  const results = await Promise.all(lanes);
  progress.end();
  const faults = results
    .filter(({ failed }) => failed)
    .map(
      ({ errorInstance, numShrinks, seed, counterexamplePath }) =>
        `${String((errorInstance as Error | null)?.message)}\n  (shrunk ${numShrinks} times; seed ${seed}, path ${counterexamplePath})`,
    );
  return { done, kinds, statuses, faults };
}

const pidsOf = ({ stack }: World) => Object.entries(stack.services).map(([name, { pid }]) => [name, pid]);

/** Mean of the last quarter less that of the second: in the first caches fill and code is compiled. MB */
function growth(samples: readonly { gateway: number; router: number }[], name: 'gateway' | 'router') {
  const values = samples.map((one) => one[name] / MB);
  const quarter = (n: number) =>
    values.slice(Math.floor((values.length * n) / 4), Math.floor((values.length * (n + 1)) / 4) || 1);
  const mean = (of: readonly number[]) => of.reduce((sum, value) => sum + value, 0) / Math.max(1, of.length);
  return {
    start: Math.round(values[0] ?? 0),
    end: Math.round(values.at(-1) ?? 0),
    most: Math.round(Math.max(...values)),
    grown: Math.round(mean(quarter(3)) - mean(quarter(1))),
  };
}

const booksShort = ({ ends, metering, billing }: Books) => ({ ends, metering, billing });
const agree = ({ ends, metering, billing }: Books): boolean =>
  [metering, billing].every(({ records, quarantined }) => records === ends && quarantined === 0) &&
  metering.inputTokens === billing.inputTokens &&
  metering.outputTokens === billing.outputTokens;

const goal = (wanted: string, value: unknown, ok: boolean): Goal => ({ goal: wanted, value, ok });

// What a request costs: Sluice, and what others put in the same place, side by side in one run on one machine.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePorts } from '@sluice/testing';
import type { Program, Run, Verdict } from '../prove/runner/program.ts';
import { UsageError, wholeNumber } from '../prove/runner/program.ts';
import { CASES, GOAL_CASES, MAIN_CASE, type Case, type SystemName } from './gateway/cases.ts';
import { billingBook, meteringBook, readCounters } from './gateway/counters.ts';
import { figuresOf, round, tableOf, type SystemFigures } from './gateway/figures.ts';
import { costGoals, memoryGoals, passedUs, tripGoals, tripsOf, truthGoals } from './gateway/goals.ts';
import { machineFacts, syncLatency } from './gateway/machine.ts';
import { MemoryWatch } from './gateway/memory.ts';
import { profileFigures, Profiler, profileText } from './gateway/profile.ts';
import { Bench, type Sample } from './gateway/rounds.ts';
import { prepareGrounds, type Grounds } from './gateway/systems.ts';

const RESULTS = fileURLToPath(new URL('results/', import.meta.url));
const WARM_UP_SECONDS = 3;
/** Sluice is more code than the others: its cost still falls after thousands of requests. */
const WARM_UP_REQUESTS = 15_000;
const WARM_UP_AT_MOST_MS = 45_000;
const PROFILED_SECONDS = 10;
/** What auth does while nobody asks is known after this. */
const IDLE_MS = 10_000;
const ALWAYS_SHORT: readonly SystemName[] = ['direct', 'sluice'];

interface Plan {
  readonly cases: readonly Case[];
  readonly rounds: number;
  readonly seconds: number;
  readonly minutes: number;
  readonly full: boolean;
  readonly profile: boolean;
  readonly journal: string | undefined;
  readonly save: string | undefined;
}

export const program: Program = {
  about: 'what a request costs: CPU µs of each process, rate and latency, beside bare Node, nginx and Portkey',
  options: {
    case: { type: 'string' },
    full: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    minutes: { type: 'string', default: '1' },
    profile: { type: 'boolean', default: false },
    journal: { type: 'string' },
    save: { type: 'string' },
  },
  usage: `  --case X       names, separated by commas (${GOAL_CASES.join(',')}); each is
                 <small|prompt|stream>-<connections: 1|32|256>-<keys: 1|100k>
  --full         all of them, and every system at half load too
  --rounds N     of every system in every case (3)
  --seconds N    of load per round (4)
  --minutes N    for which memory is watched at half load (1); 0: not at all
  --profile      then a CPU profile of gateway and router, by owner and by function
  --journal DIR  where the gateway's journal is: another disk, or none (/dev/shm)
  --save NAME    keeps every round's figures in test/bench/results/NAME.json`,
  async run(run) {
    const plan = readPlan(run);
    const [gateway, router] = plan.profile ? await freePorts(2) : [];
    const facts = machineFacts();
    run.say(`${facts.cores} × ${facts.processor}, ${facts.node}, load average ${facts.loadBefore.join(' ')}`);
    const grounds = await prepareGrounds({
      manyKeys: plan.cases.some(({ keys }) => keys > 1),
      journal: plan.journal,
      inspect: plan.profile ? { gateway: gateway!, router: router! } : undefined,
      say: run.say,
      stopping: run.stopping,
    });
    try {
      const sync = syncLatency(plan.journal ?? join(grounds.stack.dir, 'journal-probe'));
      run.say(`one fdatasync where the journal is: p50 ${sync.p50Ms} ms, p99 ${sync.p99Ms} ms`);
      const { verdict, raw } = await measureAll(run, plan, grounds, { gateway, router });
      const figures = { machine: { ...facts, fdatasync: sync }, versions: grounds.versions, ...verdict.figures };
      if (plan.save !== undefined) save(plan.save, { ...figures, goals: verdict.goals, rounds: raw });
      return { ...verdict, figures };
    } finally {
      await grounds.stop();
    }
  },
};

function readPlan({ values }: Run): Plan {
  const full = values['full'] === true;
  const asked = values['case'] === undefined ? undefined : String(values['case']).split(',');
  const names: readonly string[] = asked ?? (full ? CASES.map(({ name }) => name) : GOAL_CASES);
  const cases = names.map((name) => {
    const found = CASES.find((one) => one.name === name);
    if (!found) throw new UsageError(`--case ${name}: there are ${CASES.map((one) => one.name).join(', ')}`);
    return found;
  });
  const save = values['save'] === undefined ? undefined : String(values['save']);
  if (save !== undefined && !/^[\w.-]+$/.test(save)) throw new UsageError('--save takes a name, not a path');
  return {
    cases,
    rounds: wholeNumber('rounds', values['rounds'], 1, 100),
    seconds: wholeNumber('seconds', values['seconds'], 1, 600),
    minutes: wholeNumber('minutes', values['minutes'], 0, 600),
    full,
    profile: values['profile'] === true,
    journal: values['journal'] === undefined ? undefined : resolve(String(values['journal'])),
    save,
  };
}

interface Measured {
  readonly verdict: Verdict;
  readonly raw: Readonly<Record<string, readonly Sample[]>>;
}

async function measureAll(
  run: Run,
  plan: Plan,
  grounds: Grounds,
  inspect: { readonly gateway: number | undefined; readonly router: number | undefined },
): Promise<Measured> {
  const { say, stopping } = run;
  const bench = new Bench(grounds, stopping);
  const raw: Record<string, Sample[]> = {};
  const cases: Record<string, SystemFigures[]> = {};

  // Code that has never run is slow: every system has seen every kind of load before it counts.
  const kinds = new Set(plan.cases.map(({ kind }) => kind));
  for (const kind of kinds) {
    const what = plan.cases.find((one) => one.kind === kind)!;
    say(`warming up: ${what.name}`);
    await bench.rounds(what, { rounds: 1, seconds: WARM_UP_SECONDS });
  }
  const sluice = grounds.systems.find(({ name }) => name === 'sluice')!;
  const { ledger } = bench;
  const until = performance.now() + WARM_UP_AT_MOST_MS;
  while (ledger.answered < WARM_UP_REQUESTS && performance.now() < until && !stopping.aborted)
    await bench.measure(sluice, plan.cases[0]!, WARM_UP_SECONDS);
  const warmUpRequests = ledger.answered;
  bench.forgetWarmUp();
  const from = performance.now();

  for (const what of plan.cases) {
    if (stopping.aborted) break;
    const samples = await bench.rounds(what, plan);
    raw[what.name] = samples;
    cases[what.name] = figuresOf(samples);
    say(tableOf(what.name, cases[what.name]!));
  }

  const main = plan.cases.find(({ name }) => name === MAIN_CASE);
  const rpsOf = (name: SystemName) => cases[MAIN_CASE]?.find(({ system }) => system === name)?.rps ?? 0;
  const halfOf = (name: SystemName) => rpsOf(name === 'direct' ? 'sluice' : name) / 2;
  let half: SystemFigures[] | undefined;
  if (main && !stopping.aborted) {
    const systems = plan.full ? {} : { systems: ALWAYS_SHORT };
    const samples = await bench.rounds(main, { ...plan, ...systems }, halfOf);
    raw['half load'] = samples;
    half = figuresOf(samples);
    say(tableOf(`${MAIN_CASE} at half load; direct at the rate of sluice`, half));
  }
  let memory: ReturnType<MemoryWatch['stop']> = {};
  if (main && plan.minutes > 0 && !stopping.aborted) {
    const { gateway, router } = sluice.processes() as { gateway: number; router: number };
    const watch = new MemoryWatch(() => ({ gateway, router }));
    await bench.measure(sluice, main, plan.minutes * 60, halfOf('sluice'));
    memory = watch.stop();
    say(`memory over ${plan.minutes} min at half load: ${JSON.stringify(memory)}`);
  }

  const idleFrom = await readCounters(grounds.stack);
  const idleBegan = performance.now();
  if (!stopping.aborted) await sleep(IDLE_MS);
  const whole = await readCounters(grounds.stack);
  const idle = (performance.now() - idleBegan) / 1000;
  const truth = {
    ledger: bench.ledger,
    whole,
    metering: await meteringBook(grounds.stack),
    billing: await billingBook(grounds.stack),
    authIdlePerSecond: (whole.authTransactions - idleFrom.authTransactions) / idle,
  };
  const trips = tripsOf(truth);
  const goals = {
    ...costGoals(cases, half),
    ...tripGoals(trips),
    ...truthGoals(truth),
    ...memoryGoals(memory),
  };
  const books = { answered: bench.ledger.answered, metering: truth.metering, billing: truth.billing };
  // A load of its own, which counts for nothing.
  const profile = plan.profile && main && !stopping.aborted ? await profiled(run, bench, main, sluice, inspect) : {};
  const passed = Object.entries(cases).flatMap(([name, figures]) =>
    figures.filter(({ system }) => system === 'sluice').map((one) => [name, passedUs(one)]),
  );
  return {
    raw,
    verdict: {
      figures: {
        gatewayAndRouterUs: Object.fromEntries(passed) as Record<string, number>,
        cases,
        ...(half ? { halfLoad: half } : {}),
        memory,
        trips,
        warmUpRequests,
        books,
        measuredSeconds: round((performance.now() - from) / 1000, 0),
        ...profile,
      },
      goals,
    },
  };
}

async function profiled(
  { say }: Run,
  bench: Bench,
  main: Case,
  sluice: Grounds['systems'][number],
  ports: { readonly gateway: number | undefined; readonly router: number | undefined },
) {
  const names = ['gateway', 'router'] as const;
  const profilers = await Promise.all(names.map((name) => Profiler.attach(ports[name]!)));
  await Promise.all(profilers.map((profiler) => profiler.start()));
  const { requests } = await bench.measure(sluice, main, PROFILED_SECONDS);
  const profiles = await Promise.all(profilers.map((profiler) => profiler.stop()));
  const figures = names.map((name, i) => [name, profileFigures(profiles[i]!, requests)] as const);
  for (const [name, one] of figures) say(profileText(name, one));
  return { profile: Object.fromEntries(figures) };
}

function save(name: string, content: unknown): void {
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(join(RESULTS, `${name}.json`), `${JSON.stringify(content, null, 1)}\n`);
}

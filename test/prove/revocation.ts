// npm run prove -- revocation: a revoke that returned is in force everywhere.
import { loadavg } from 'node:os';
import { withMutants } from './runner/mutants.ts';
import type { Goal, Program, Run, Verdict } from './runner/program.ts';
import { wholeNumber } from './runner/program.ts';
import type { Random } from './runner/random.ts';
import { Checker } from './revocation/checker.ts';
import { Cluster } from './revocation/cluster.ts';
import { Desk } from './revocation/desk.ts';
import { presentKinds } from './revocation/kinds.ts';
import { huntMutants } from './revocation/hunt.ts';
import { MUTANTS } from './revocation/mutants.ts';
import { runPhase } from './revocation/phases.ts';
import { latency, latencyAtClient, timesByKind, violationText } from './revocation/report.ts';
import { playScenarios, scenariosNamed } from './revocation/scenarios.ts';

/** Before anything is timed: code that has never run is slow. */
const WARM_UP = 12;
const CALM_P99_MS = 50;
/** L + 1 s. */
const FAULTS_P99_MS = 3_000;
const SHOWN = 10;

export const program: Program = {
  about: 'a revoke that returned is in force at every gateway: 0 accepts, under load and faults',
  usage: `  --revokes N    half of them in calm, half under faults (default 1000)
  --scenarios X  names, separated by commas; "all" (the default) or "none"
  --mutants      then the same with each rule of the design switched off: every one has to be found
  --mutants=X    the same for some of them, separated by commas
  --only-mutants without the unmutated run`,
  options: {
    revokes: { type: 'string', default: '1000' },
    scenarios: { type: 'string', default: 'all' },
    mutants: { type: 'string' },
    'only-mutants': { type: 'boolean', default: false },
  },
  bare: { mutants: 'all' },
  async run(run) {
    const { values } = run;
    const revokes = wholeNumber('revokes', values['revokes'], 0, 1_000_000);
    const scenarios = scenariosNamed(String(values['scenarios']));
    return withMutants(run, {
      mutants: MUTANTS,
      unmutated: (random) => unmutated(run, { revokes, scenarios, random }),
      hunt: (mutants, random) => huntMutants(mutants, random, run),
    });
  },
};

interface Plan {
  readonly revokes: number;
  readonly scenarios: ReturnType<typeof scenariosNamed>;
  readonly random: Random;
}

async function unmutated({ say, stopping }: Run, { revokes, scenarios, random }: Plan): Promise<Verdict> {
  const checker = new Checker();
  const over = () => stopping.aborted;
  say('starting PostgreSQL, NATS, Redis, five services and two more gateways');
  const cluster = await Cluster.start();
  try {
    cluster.watch(checker);
    const { present: kinds, absent } = await presentKinds(new Desk(cluster, random.fork('kinds')));
    for (const [kind, why] of Object.entries(absent)) say(`left out: ${kind} (${why})`);
    const calmRevokes = Math.ceil(revokes / 2);
    if (revokes > 0)
      await runPhase(cluster, checker, {
        name: 'warm-up',
        revokes: Math.min(WARM_UP, revokes),
        kinds,
        random: random.fork('warm-up'),
        over,
      });
    const calm = await runPhase(cluster, checker, {
      name: 'calm',
      revokes: calmRevokes,
      kinds,
      random: random.fork('calm'),
      over,
    });
    const load = loadavg()[0]!;
    const problems = await playScenarios(cluster, checker, random.fork('scenarios'), { scenarios, over });
    const faults = await runPhase(cluster, checker, {
      name: 'faults',
      revokes: revokes - calmRevokes,
      kinds,
      random: random.fork('faults'),
      over,
    });

    for (const problem of problems) say(`✗ ${problem}`);
    for (const violation of checker.violations.slice(0, SHOWN)) say(violationText(violation));
    const { calls, counts } = checker;
    const calmMs = latencyAtClient(calm.times);
    const faultsMs = latencyAtClient(faults.times);
    const confirmed = [calm, faults]
      .map(({ times, hinderedTimes, confirmedLater }) => times.length + hinderedTimes.length + confirmedLater)
      .reduce((sum, one) => sum + one, 0);
    return {
      figures: {
        revokes: calm.revokes + faults.revokes,
        inForce: confirmed,
        unconfirmed: calm.unconfirmed + faults.unconfirmed,
        calls: calls.begun,
        answered: { accepted: calls.accepted, refused: calls.refused, unavailable: calls.unavailable },
        violations: counts,
        streamedUnasked: checker.streamedUnasked,
        calm: {
          deleteMs: calmMs,
          p50p99ByKind: timesByKind(calm.times),
          pending: calm.pending,
          loadAverage: Number(load.toFixed(1)),
        },
        faults: {
          deleteMs: faultsMs,
          hinderedDeleteMs: latencyAtClient(faults.hinderedTimes),
          pending: faults.pending,
          confirmedLater: faults.confirmedLater,
          notAnswered: faults.failed,
          injected: faults.faults,
        },
        streamsCutAfterMs: latency(checker.cutAfterMs),
        kinds: sumOf(calm.kinds, faults.kinds),
        absent,
        scenarios: scenarios.length,
        problems,
      },
      goals: {
        accepts: goal('0 of any kind', counts, checker.found === 0),
        scenarios: goal('each as it is described', problems.length, problems.length === 0),
        inForce: goal('every revoke, in the end', confirmed, confirmed === calm.revokes + faults.revokes),
        calmP99: goal(`< ${CALM_P99_MS} ms`, calmMs.p99, calmMs.n === 0 || calmMs.p99! < CALM_P99_MS),
        faultsP99: goal(`<= ${FAULTS_P99_MS} ms`, faultsMs.p99, faultsMs.n === 0 || faultsMs.p99! <= FAULTS_P99_MS),
      },
    };
  } finally {
    await cluster.stop();
  }
}

const goal = (wanted: string, value: unknown, ok: boolean): Goal => ({ goal: wanted, value, ok });

const sumOf = (one: Readonly<Record<string, number>>, other: Readonly<Record<string, number>>) =>
  Object.fromEntries(
    [...new Set([...Object.keys(one), ...Object.keys(other)])].map((name) => [
      name,
      (one[name] ?? 0) + (other[name] ?? 0),
    ]),
  );

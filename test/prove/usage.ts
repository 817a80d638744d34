// npm run prove -- usage: no usage is lost or counted twice.
import { withMutants } from './runner/mutants.ts';
import type { Goal, Program, Run, Verdict } from './runner/program.ts';
import { wholeNumber } from './runner/program.ts';
import type { Random } from './runner/random.ts';
import { Cluster } from './usage/cluster.ts';
import { huntMutants } from './usage/hunt.ts';
import { MUTANTS } from './usage/mutants.ts';
import { play, type Played } from './usage/play.ts';

const SHOWN = 20;

export const program: Program = {
  about:
    'what reached a worker is metered and charged once: 0 lost, 0 doubled, under kill -9, with NATS away, clients leaving',
  usage: `  --requests N     of all kinds, streamed or not (default 20000)
  --nats-away S    seconds for which NATS is away each time (default 20)
  --mutants        then with each rule switched off in turn: every one has to be found
  --mutants=X      the same for some of them, separated by commas
  --only-mutants   without the unmutated run`,
  options: {
    requests: { type: 'string', default: '20000' },
    'nats-away': { type: 'string', default: '20' },
    mutants: { type: 'string' },
    'only-mutants': { type: 'boolean', default: false },
  },
  bare: { mutants: 'all' },
  async run(run) {
    const { values } = run;
    const requests = wholeNumber('requests', values['requests'], 100, 10_000_000);
    const natsAwayMs = wholeNumber('nats-away', values['nats-away'], 1, 600) * 1_000;
    return withMutants(run, {
      mutants: MUTANTS,
      unmutated: (random) => unmutated(run, { requests, natsAwayMs, random }),
      hunt: (mutants, random) => huntMutants(mutants, random, run),
    });
  },
};

interface Plan {
  readonly requests: number;
  readonly natsAwayMs: number;
  readonly random: Random;
}

async function unmutated({ say, stopping }: Run, { requests, natsAwayMs, random }: Plan): Promise<Verdict> {
  say('starting PostgreSQL, NATS, Redis, five services, a second gateway, two workers');
  const cluster = await Cluster.start();
  try {
    const played = await play(cluster, { requests, natsAwayMs, random, over: () => stopping.aborted, quiet: false });
    for (const { kind, requestId, what } of played.checked.findings.slice(0, SHOWN))
      say(`✗ ${kind} ${requestId}: ${what}`);
    return verdictOf(played);
  } finally {
    await cluster.stop();
  }
}

function verdictOf({ checked, seen, faults, accounts, taken, seconds, unfinishedJournals }: Played): Verdict {
  const { findings, behind } = checked;
  const sorted = behind.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
  const of = (kind: string) => findings.filter((one) => one.kind === kind).length;
  const left = seen.filter((one) => one.left).length;
  const zero = (kind: string): Goal => ({ goal: '0', value: of(kind), ok: of(kind) === 0 });
  const broken = Object.values(faults).reduce((sum, count) => sum + count, 0);
  return {
    figures: {
      requests: seen.length,
      seconds,
      reachedAWorker: checked.reached,
      metered: accounts.metered.size,
      charged: accounts.ledger.size,
      answeredWhole: checked.whole,
      lastBytesAfterTheirSync: checked.ended - of('early'),
      clientsLeft: left,
      failures: tally(seen.flatMap(({ failure }) => failure ?? [])),
      faults,
      cutStreams: checked.cutStreams,
      behindWorkerTokens: { n: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) },
      cutBeforeTheAnswer: checked.cutWhole,
      cutStreamsByEstimate: checked.byEstimate,
      bothWitnessesLost: checked.lostBoth,
      picoUsd: String(taken),
    },
    goals: {
      lost: zero('lost'),
      doubled: zero('doubled'),
      differing: zero('differing'),
      invented: zero('invented'),
      short: zero('short'),
      early: zero('early'),
      setAside: { goal: '0', value: accounts.setAside, ok: accounts.setAside === 0 },
      deadJournals: { goal: '0 left', value: unfinishedJournals, ok: unfinishedJournals === 0 },
      // A run in which nothing happened shows nothing.
      tried: {
        goal: 'gateways and router killed, NATS away, clients left, answers came',
        value: { broken, left, whole: checked.whole },
        ok: broken >= 4 && left > 0 && checked.whole > seen.length / 3,
      },
    },
  };
}

function tally(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

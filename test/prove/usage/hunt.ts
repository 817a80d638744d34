import type { Goal, Run, Verdict } from '../runner/program.ts';
import type { Random } from '../runner/random.ts';
import { Cluster } from './cluster.ts';
import type { Mutant } from './mutants.ts';
import { play } from './play.ts';

const REQUESTS = 600;
const NATS_AWAY_MS = 4_000;

/** The run with each rule switched off in turn. A rule whose absence nothing shows is not tested, or not needed. */
export async function huntMutants(mutants: readonly Mutant[], random: Random, run: Run): Promise<Verdict> {
  const found: Record<string, string> = {};
  const goals: Record<string, Goal> = {};
  for (const [i, mutant] of mutants.entries()) {
    if (run.stopping.aborted) break;
    const by = await hunt(mutant, random.fork(mutant.name), run);
    found[mutant.name] = by ?? 'nothing';
    run.say(
      `${by === undefined ? '✗' : '✓'} ${i + 1}/${mutants.length} ${mutant.name} (without: ${mutant.without}): ` +
        (by === undefined ? 'nothing' : `found by ${by}`),
    );
    goals[`mutant ${mutant.name}`] = { goal: 'found', value: by ?? 'nothing', ok: by !== undefined };
  }
  return { figures: { mutants: found }, goals };
}

/** @returns what showed the missing rule; undefined when nothing did */
async function hunt(mutant: Mutant, random: Random, { stopping }: Run): Promise<string | undefined> {
  const cluster = await Cluster.start(mutant.patches);
  try {
    const over = () => stopping.aborted;
    const played = await play(cluster, { requests: REQUESTS, natsAwayMs: NATS_AWAY_MS, random, over, quiet: true });
    const [first] = played.checked.findings;
    if (stopping.aborted) return undefined;
    if (first) return `${first.kind} (${played.checked.findings.length} findings): ${first.what}`;
    if (played.accounts.setAside > 0) return `${played.accounts.setAside} records set aside`;
    return played.unfinishedJournals > 0 ? `${played.unfinishedJournals} journals of dead gateways left` : undefined;
  } finally {
    await cluster.stop();
  }
}

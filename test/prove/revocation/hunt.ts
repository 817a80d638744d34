import type { Goal, Run, Verdict } from '../runner/program.ts';
import type { Random } from '../runner/random.ts';
import { Checker } from './checker.ts';
import { Cluster } from './cluster.ts';
import { Desk } from './desk.ts';
import { presentKinds } from './kinds.ts';
import type { Mutant } from './mutants.ts';
import { runPhase } from './phases.ts';
import { playScenarios, SCENARIOS } from './scenarios.ts';

/** Revokes at random for a mutant that no scenario found. */
const CALM_REVOKES = 30;
const FAULTY_REVOKES = 80;

/** The run with each rule switched off in turn. A rule whose absence nothing shows is not tested, or not needed. */
export async function huntMutants(mutants: readonly Mutant[], random: Random, run: Run): Promise<Verdict> {
  const found: Record<string, string> = {};
  const goals: Record<string, Goal> = {};
  for (const [i, mutant] of mutants.entries()) {
    if (run.stopping.aborted) break;
    const from = performance.now();
    const by = await hunt(mutant, random.fork(mutant.name), run);
    const seconds = Math.round((performance.now() - from) / 1_000);
    found[mutant.name] = by ?? 'nothing';
    const covered = mutant.coveredBy === undefined ? '' : ` (covered: ${mutant.coveredBy})`;
    run.say(
      `${by === undefined && covered === '' ? '✗' : '✓'} ${i + 1}/${mutants.length} ${mutant.name} (rule ${mutant.rule}, ` +
        `without: ${mutant.without}): ${by === undefined ? `nothing${covered}` : `found by ${by}`}, ${seconds} s`,
    );
    if (mutant.coveredBy === undefined)
      goals[`mutant ${mutant.name}`] = { goal: 'found', value: by ?? 'nothing', ok: by !== undefined };
  }
  return { figures: { mutants: found }, goals };
}

/** @returns what showed the missing rule, and how; undefined when nothing did */
async function hunt(mutant: Mutant, random: Random, { stopping }: Run): Promise<string | undefined> {
  const checker = new Checker();
  const over = () => checker.found > 0 || stopping.aborted;
  const cluster = await Cluster.start(mutant.patches);
  try {
    cluster.watch(checker);
    const first = SCENARIOS.filter(({ name }) => mutant.first.includes(name));
    const scenarios = [...first, ...SCENARIOS.filter((one) => !first.includes(one))];
    await playScenarios(cluster, checker, random, { scenarios, over, quiet: true });
    if (!over()) {
      const { present: kinds } = await presentKinds(new Desk(cluster, random.fork('kinds')));
      for (const [name, revokes] of [
        ['calm', CALM_REVOKES],
        ['faults', FAULTY_REVOKES],
      ] as const)
        await runPhase(cluster, checker, { name, revokes, kinds, random: random.fork(name), over, quiet: true });
    }
  } finally {
    await cluster.stop();
  }
  const [violation] = checker.violations;
  return (
    violation && `${violation.where}: ${checker.found} ${violation.kind}, ${violation.afterMs} ms after the return`
  );
}

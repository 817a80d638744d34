import { UsageError } from '../runner/program.ts';
import type { Random } from '../runner/random.ts';
import { progressOf } from '../../load/replay/progress.ts';
import type { Checker } from './checker.ts';
import type { Cluster } from './cluster.ts';
import { DELIVERY } from './scenarios/delivery.ts';
import { FEED } from './scenarios/feed.ts';
import { LOOKUPS } from './scenarios/lookups.ts';
import { PROCEDURE } from './scenarios/procedure.ts';
import { Stage, type Scenario } from './scenarios/stage.ts';

export const SCENARIOS: readonly Scenario[] = [...FEED, ...LOOKUPS, ...PROCEDURE, ...DELIVERY];

/** @param names separated by commas; "all" for all, "none" for none. @throws UsageError */
export function scenariosNamed(names: string): readonly Scenario[] {
  if (names === 'all') return SCENARIOS;
  if (names === 'none') return [];
  return names.split(',').map((name) => {
    const scenario = SCENARIOS.find((one) => one.name === name);
    if (scenario) return scenario;
    throw new UsageError(`there is no scenario ${name}; there are ${SCENARIOS.map((one) => one.name).join(', ')}`);
  });
}

/** Plays scenarios one after the other, each on a mended cluster. @returns what was not as promised, beside violations */
export async function playScenarios(
  cluster: Cluster,
  checker: Checker,
  random: Random,
  options: { readonly scenarios?: readonly Scenario[]; readonly quiet?: boolean; readonly over?: () => boolean } = {},
): Promise<string[]> {
  const { scenarios = SCENARIOS, quiet = false, over = () => false } = options;
  const progress = quiet ? undefined : progressOf('scenarios', scenarios.length);
  const stage = new Stage(cluster, checker, random);
  for (const [i, scenario] of scenarios.entries()) {
    if (over()) break;
    checker.where = scenario.name;
    progress?.set(i, `${scenario.name}, ${checker.found} violations`);
    try {
      await scenario.play(stage);
    } catch (error) {
      stage.problem((error as Error).message);
    }
    cluster.heal();
    await cluster.whenLeased();
  }
  progress?.set(scenarios.length, `${checker.found} violations`);
  progress?.end();
  return stage.problems;
}

import { UsageError, type Run, type Verdict } from './program.ts';
import type { Random } from './random.ts';

/** @param names separated by commas; "all" or nothing for all. @throws UsageError */
export function mutantsNamed<M extends { readonly name: string }>(mutants: readonly M[], names: string): readonly M[] {
  if (names === 'all' || names === '') return mutants;
  return names.split(',').map((name) => {
    const mutant = mutants.find((one) => one.name === name);
    if (mutant) return mutant;
    throw new UsageError(`there is no mutant ${name}; there are ${mutants.map((one) => one.name).join(', ')}`);
  });
}

export interface Parts<M> {
  /** All that there are. */
  readonly mutants: readonly M[];
  readonly unmutated: (random: Random) => Promise<Verdict>;
  readonly hunt: (mutants: readonly M[], random: Random) => Promise<Verdict>;
}

/**
 * A run, and behind it the hunt for what `--mutants` names; with `--only-mutants` that alone. The choices of one do not
 * depend on whether the other was asked for.
 * @throws UsageError before anything is started
 */
export async function withMutants<M extends { readonly name: string }>(
  { values, random, stopping }: Run,
  { mutants: all, unmutated, hunt }: Parts<M>,
): Promise<Verdict> {
  const asked = values['mutants'];
  const alone = values['only-mutants'] === true;
  if (alone && asked === undefined) throw new UsageError('--only-mutants of what?');
  const mutants = asked === undefined ? [] : mutantsNamed(all, String(asked));
  const own = alone ? { figures: {}, goals: {} } : await unmutated(random.fork('own'));
  if (mutants.length === 0 || stopping.aborted) return own;
  const hunted = await hunt(mutants, random.fork('mutants'));
  return { figures: { ...own.figures, ...hunted.figures }, goals: { ...own.goals, ...hunted.goals } };
}

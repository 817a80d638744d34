/**
 * An aggregate: what a command makes happen (`decide`) and what happened makes of the state (`evolve`). Both are pure:
 * clock, randomness and look-ups are in the command. `[]` = the command is already honoured; refused = throw.
 */
export interface Decider<C, S, E> {
  readonly initial: S;
  decide(command: C, state: S): readonly E[];
  evolve(state: S, event: E): S;
}

/** The state after these events. */
export function fold<S, E>(decider: Pick<Decider<never, S, E>, 'initial' | 'evolve'>, events: Iterable<E>): S {
  let state = decider.initial;
  for (const event of events) state = decider.evolve(state, event);
  return state;
}

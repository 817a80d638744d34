/** A worker that may be given the request, with what the router's own books say of it. */
export interface Candidate {
  readonly id: string;
  readonly slots: number;
}

/**
 * The least loaded of the candidates: requests in flight per slot, ties at random, so that idle workers of equal size
 * share evenly. Steers by the router's own accounting, never by what a worker reported a second ago.
 * @param inFlight requests this router has booked on a worker
 * @param random uniform in [0, 1)
 */
export function place<C extends Candidate>(
  candidates: readonly C[],
  inFlight: (id: string) => number,
  random: () => number,
): C | undefined {
  let best: C | undefined;
  let bestLoad = Number.POSITIVE_INFINITY;
  let ties = 0;
  for (const candidate of candidates) {
    const load = inFlight(candidate.id) / candidate.slots;
    if (load > bestLoad) continue;
    ties = load < bestLoad ? 1 : ties + 1;
    bestLoad = load;
    // The n-th of equals replaces the choice with probability 1/n: each ends up chosen equally often.
    if (ties === 1 || random() * ties < 1) best = candidate;
  }
  return best;
}

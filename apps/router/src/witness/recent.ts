import type { Sighting } from './sighting.js';

/** How long a gateway may take from an answer's end here to its END on the disk. */
export const UNSETTLED_MS = 5_000;
const PLACES = 4_096;

interface Passed {
  readonly connection: object;
  /** Monotonic milliseconds. */
  readonly at: number;
  readonly sighting: Sighting;
}

/**
 * Answers that went to their gateway whole a moment ago: had it died before its END was written, nobody else would know of
 * them. A ring, so that it costs a request nothing but its place, and never grows.
 */
export class Recent {
  private readonly ring: (Passed | undefined)[] = Array.from({ length: PLACES }, () => undefined);
  private next = 0;

  passed(connection: object, sighting: Sighting, at: number): void {
    sighting.shrink();
    this.ring[this.next] = { connection, at, sighting };
    this.next = (this.next + 1) % PLACES;
  }

  /** Those that went over a connection within the last UNSETTLED_MS; they are forgotten. */
  takeOf(connection: object, now: number): Sighting[] {
    const taken: Sighting[] = [];
    for (const [place, one] of this.ring.entries()) {
      if (one?.connection !== connection) continue;
      this.ring[place] = undefined;
      if (now - one.at < UNSETTLED_MS) taken.push(one.sighting);
    }
    return taken;
  }
}

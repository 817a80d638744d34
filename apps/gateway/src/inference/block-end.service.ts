import { Rejected } from '@sluice/contracts/errors';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import type { Running } from '../keys/in-flight.js';
import { secondsToNext, timeEnd, type Reserved } from '../keys/reserved.js';

/** What runs when its reserved block ends may go on for this long. */
export const BLOCK_GRACE_MS = 120_000;

/** The end of what ran beyond its block and the grace behind it. */
export class BlockOver extends Rejected {
  /** @param end of the block, milliseconds since the epoch */
  constructor(reserved: Reserved, end: number) {
    const retryAfter = secondsToNext(reserved, end + BLOCK_GRACE_MS, end);
    super('outside_reserved_block', 'The reserved block is over.', { retryAfter });
  }
}

/**
 * Cuts what still runs when its block has been over for the grace, unless more of it was paid for meanwhile. By the
 * monotonic clock: one that is set back gives no more time.
 * @param deadline monotonic milliseconds: beyond it there is nothing to cut
 * @returns what calls it off
 */
export function endWithBlock(
  reserved: Reserved,
  running: Pick<Running, 'credential'>,
  deadline: number,
  cut: (reason: BlockOver) => void,
  clock: Clock = systemClock,
): () => void {
  const wall = clock.now();
  let end = timeEnd(reserved, wall);
  let due = clock.monotonic() + (end - wall) + BLOCK_GRACE_MS;
  let timer: NodeJS.Timeout | undefined;
  const arm = (): void => {
    if (due < deadline) timer = setTimeout(over, Math.max(0, due - clock.monotonic()));
  };
  const over = (): void => {
    const known = running.credential.reserved ?? reserved;
    const later = timeEnd(known, end - 1);
    if (later <= end) return cut(new BlockOver(known, end));
    due += later - end;
    end = later;
    arm();
  };
  arm();
  return () => clearTimeout(timer);
}

import type { RefusalCount, RefusalCounts } from '@sluice/contracts/refusals';

export interface RefusalsRow extends RefusalCount {
  readonly boot: string;
}

/**
 * The rows of messages, the most of each: however often, late or cut up a process tells what it has refused so far. In the
 * order of the table's key, so that those who write at the same time wait for each other instead of deadlocking.
 */
export function refusalRows(messages: readonly RefusalCounts[]): RefusalsRow[] {
  const rows = new Map<string, RefusalsRow>();
  for (const { boot, counts } of messages) {
    for (const one of counts) {
      const minute = toMinute(one.minute);
      const key = JSON.stringify([one.organizationId, minute, one.keyId, one.project, one.model, one.code, boot]);
      const count = Math.max(one.count, rows.get(key)?.count ?? 0);
      rows.set(key, { ...one, minute, count, boot });
    }
  }
  return Array.from(rows)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, row]) => row);
}

const toMinute = (time: string): string => `${time.slice(0, 16)}:00Z`;

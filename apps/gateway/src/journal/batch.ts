import { USAGE_PARTITIONS, usageSubject } from '@sluice/contracts/subjects';
import { parseEnd } from './entry.js';

const MAX_BATCH_BYTES = 256 * 1024;

export interface End {
  readonly seq: number;
  /** The record. */
  readonly json: string;
}

/** ENDs that follow each other, as one message. */
export interface Batch {
  readonly from: number;
  /** Included. */
  readonly to: number;
  readonly records: string[];
}

/** The ENDs among lines of a journal. @param torn called for each that can't be read */
export function endsOf(lines: readonly string[], torn: () => void): End[] {
  const ends: End[] = [];
  for (const line of lines) {
    if (line[0] !== 'E') continue;
    try {
      const { seq, json } = parseEnd(line);
      ends.push({ seq, json });
    } catch {
      torn();
    }
  }
  return ends;
}

export function batched(ends: readonly End[]): Batch[] {
  const batches: { from: number; to: number; records: string[]; bytes: number }[] = [];
  for (const { seq, json } of ends) {
    const last = batches.at(-1);
    if (last && last.to + 1 === seq && last.bytes + json.length <= MAX_BATCH_BYTES) {
      last.records.push(json);
      last.to = seq;
      last.bytes += json.length + 1;
    } else batches.push({ from: seq, to: seq, records: [json], bytes: json.length });
  }
  return batches;
}

/** Where a batch goes, and its text: records are copied as they are. */
export const messageOf = (boot: string, { from, to, records }: Batch) => ({
  subject: usageSubject(from % USAGE_PARTITIONS),
  payload: `{"boot":${JSON.stringify(boot)},"from":${from},"to":${to},"records":[${records.join(',')}]}`,
});

import type { LogLine } from '../../load/replay/worker-logs.ts';
import type { Accounts, Metered } from './accounts.ts';
import type { Seen } from './client.ts';

/**
 * lost: a request that reached a worker, or was answered, is not in metering or not in the ledger.
 * doubled: a sum says more than the records it is made of, or the ledger took other money than the charge says.
 * differing: metering and ledger, or an answer that came whole and the worker's log, do not say the same.
 * invented: metered without a worker that did it, or beyond what it generated.
 * short: less is metered than the client of a cut answer had received.
 * early: the client had the last byte of an answer, whole, cut short or an error, whose END was not on the disk.
 */
export type Kind = 'lost' | 'doubled' | 'differing' | 'invented' | 'short' | 'early';

export interface Finding {
  readonly kind: Kind;
  readonly requestId: string;
  readonly what: string;
}

export interface Checked {
  readonly findings: readonly Finding[];
  /** Requests that reached a worker. */
  readonly reached: number;
  readonly whole: number;
  /** Answers of which a client had the last byte: whole ones, errors, streams that end with an error. */
  readonly ended: number;
  /** Streams that were cut at a worker that counts on the way, by how many tokens less are metered than it generated. */
  readonly behind: readonly number[];
  /** Of them, those that the client had a piece of. */
  readonly cutStreams: number;
  /** Whole answers that the worker was stopped at: nothing of them was ever sent. */
  readonly cutWhole: number;
  /** Cut streams that nobody counts on the way: their counts are estimates. */
  readonly byEstimate: number;
  /** Cut ones that had lost both witnesses: not held to what the client received. */
  readonly lostBoth: number;
}

/** @param lostBoth of a request that was cut: is its journal's last count the best there is? */
export function check(seen: readonly Seen[], accounts: Accounts, lostBoth: (one: Seen) => boolean): Checked {
  const { metered, ledger, sums } = accounts;
  const findings: Finding[] = [];
  const find = (kind: Kind, requestId: string, what: string) => void findings.push({ kind, requestId, what });
  const lines = Map.groupBy(accounts.lines, ({ requestId }) => requestId.slice(0, requestId.lastIndexOf('.')));
  const bySeen = new Map(seen.flatMap((one) => (one.requestId === undefined ? [] : [[one.requestId, one] as const])));
  const behind: number[] = [];
  let cutStreams = 0;
  let cutWhole = 0;
  let excused = 0;
  let byEstimate = 0;

  const mustBeThere = new Set(lines.keys());
  for (const { requestId, whole } of seen) if (whole) mustBeThere.add(requestId ?? 'an answer without an id');
  for (const requestId of mustBeThere) {
    if (!metered.has(requestId)) find('lost', requestId, 'not in metering');
    if (!ledger.has(requestId)) find('lost', requestId, 'not in the ledger');
  }
  for (const [requestId, record] of metered) {
    const charged = ledger.get(requestId);
    if (charged === undefined) {
      if (!mustBeThere.has(requestId)) find('lost', requestId, 'metered, and not in the ledger');
    } else if (charged.input !== record.input || charged.output !== record.output)
      find('differing', requestId, `metered ${shown(record)}, charged for ${shown(charged)}`);
    else if (charged.pico !== record.pico)
      find('doubled', requestId, `costs ${record.pico} pico-USD, the ledger took ${charged.pico}`);
    const one = bySeen.get(requestId);
    const line = lines.get(requestId)?.find(({ requestId: id }) => id === `${requestId}.${record.attempt}`);
    if (line === undefined) {
      if (record.input + record.output > 0n) find('invented', requestId, `metered ${shown(record)} of no worker`);
      continue;
    }
    if (one?.whole) {
      if (!same(record, line)) find('differing', requestId, `metered ${shown(record)}, the worker says ${said(line)}`);
      continue;
    }
    const missing = line.completionTokens - Number(record.output);
    if (missing < 0)
      find(
        'invented',
        requestId,
        `metered ${shown(record)}${record.estimated ? ' by estimate' : ''} of ${one?.order.kind.dialect}, the worker says ${said(line)}`,
      );
    if (!record.stream) {
      // Nothing of a whole answer goes out before its end: all of it, or nothing.
      if (missing > 0 && record.output > 0n) find('short', requestId, `metered ${shown(record)} of ${said(line)}`);
      if (missing > 0) cutWhole++;
      continue;
    }
    cutStreams++;
    if (one && lostBoth(one)) {
      excused++;
      continue;
    }
    if (one?.order.kind.dialect === 'responses') {
      // No worker counts these on the way. A gateway that lives counts the pieces; of one that died its journal has the last.
      byEstimate++;
      if (one.broken) continue;
    } else behind.push(missing);
    if (one && Number(record.output) < one.pieces)
      find(
        'short',
        requestId,
        `metered ${shown(record)}, the client had received ${one.pieces} pieces, worker: ${said(line)}`,
      );
  }
  let ended = 0;
  for (const { requestId, syncedAtEnd, gateway, failure } of seen) {
    // What was refused before a worker was asked has no END, and is not metered.
    if (requestId === undefined || syncedAtEnd === undefined || !metered.has(requestId)) continue;
    ended++;
    const place = accounts.synced[gateway]!.get(requestId) ?? Infinity;
    if (place > syncedAtEnd)
      find('early', requestId, `its last byte came before its END was synced (${failure ?? 'ok'})`);
  }
  for (const name of ['minutes', 'hours', 'days'])
    if (JSON.stringify(sums[name]) !== JSON.stringify(sums['records']))
      find(
        'doubled',
        '',
        `${name} sum up to ${JSON.stringify(sums[name])}, records to ${JSON.stringify(sums['records'])}`,
      );
  return {
    findings,
    reached: lines.size,
    ended,
    whole: seen.filter(({ whole }) => whole).length,
    behind,
    cutStreams,
    cutWhole,
    byEstimate,
    lostBoth: excused,
  };
}

const same = ({ input, output }: Metered, line: LogLine): boolean =>
  input === BigInt(line.promptTokens) && output === BigInt(line.completionTokens);
const shown = ({ input, output }: { readonly input: bigint; readonly output: bigint }): string =>
  `${input} in, ${output} out`;
const said = ({ promptTokens, completionTokens, outcome }: LogLine): string =>
  `${promptTokens} in, ${completionTokens} out, ${outcome}`;

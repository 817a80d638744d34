import type { OpenedRequest, UsageRecord } from '@sluice/contracts/gateway';
import type { Counts } from '@sluice/contracts/lost-request';

/**
 * The journal's lines: a letter, a space, its fields, a newline. END carries the finished record as it will be
 * published, so that the publisher copies bytes and parses nothing.
 *
 *     S <seq of the next END>                 (where a segment begins: those before it may be gone)
 *     O <json of the opened request>
 *     C <requestId> <input> <cachedInput> <output>[ ~][ a<ms>]   (~: an estimate; a: milliseconds of audio)
 *     E <seq> <requestId> <json of the usage record>
 */
export const segmentLine = (nextSeq: number): string => `S ${nextSeq}\n`;
/** @param request as JSON */
export const openLine = (request: string): string => `O ${request}\n`;
export const countLine = (requestId: string, counts: Counts): string =>
  `C ${requestId} ${counts.input} ${counts.cachedInput} ${counts.output}${counts.estimated ? ' ~' : ''}${counts.audio ? ` a${counts.audio.ms}` : ''}\n`;
export const endLine = (record: UsageRecord): string =>
  `E ${record.seq} ${record.requestId} ${JSON.stringify(record)}\n`;

/** What a read of a whole journal finds. */
export interface JournalState {
  /** Opened requests without an END, with the last count seen of each. */
  readonly open: Map<string, { request: OpenedRequest; counts: Counts | undefined }>;
  /** Position for the next END. */
  nextSeq: number;
  /** The first END that can be in it; undefined where nothing says so. */
  heldFrom: number | undefined;
}

export const emptyState = (): JournalState => ({ open: new Map(), nextSeq: 0, heldFrom: undefined });

/** Folds one line into the state. A torn last line, from a crash in mid-write, is no entry: false. */
export function readLine(state: JournalState, line: string): boolean {
  const kind = line[0];
  try {
    if (kind === 'O') {
      const request = JSON.parse(line.slice(2)) as OpenedRequest;
      state.open.set(request.requestId, { request, counts: undefined });
    } else if (kind === 'C') {
      const [, requestId, input, cachedInput, output, ...marks] = line.split(' ');
      const entry = state.open.get(requestId!);
      if (!entry) return true;
      const counts = { input: Number(input), cachedInput: Number(cachedInput), output: Number(output) };
      const audio = marks.find((mark) => mark.startsWith('a'));
      entry.counts = {
        ...counts,
        estimated: marks.includes('~'),
        ...(audio === undefined ? {} : { audio: { ms: Number(audio.slice(1)) } }),
      };
    } else if (kind === 'E') {
      const { seq, requestId } = parseEnd(line);
      state.open.delete(requestId);
      // Where a segment began for this very END, its first line speaks of the one behind it.
      state.heldFrom = Math.min(state.heldFrom ?? seq, seq);
      state.nextSeq = Math.max(state.nextSeq, seq + 1);
    } else if (kind === 'S') {
      const seq = Number(line.slice(2));
      state.nextSeq = Math.max(state.nextSeq, seq);
      state.heldFrom ??= seq;
    } else return false;
    return true;
  } catch {
    return false;
  }
}

/** The parts of an END line; `json` is the record's text. */
export function parseEnd(line: string): { seq: number; requestId: string; json: string } {
  const afterSeq = line.indexOf(' ', 2);
  const afterId = line.indexOf(' ', afterSeq + 1);
  const seq = Number(line.slice(2, afterSeq));
  if (afterSeq === -1 || afterId === -1 || !Number.isSafeInteger(seq) || !line.endsWith('}'))
    throw new Error('not an END line');
  return { seq, requestId: line.slice(afterSeq + 1, afterId), json: line.slice(afterId + 1) };
}

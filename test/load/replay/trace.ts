import { parse } from 'csv-parse/sync';

/** One request of a production trace: when it came and how long it was, not what it said. */
export interface TraceRow {
  /** From 0 */
  readonly index: number;
  /** Milliseconds after the first row. */
  readonly at: number;
  readonly contextTokens: number;
  readonly generatedTokens: number;
}

export class TraceError extends Error {
  override readonly name = 'TraceError';
}

/** The first `count` rows of the Azure format: TIMESTAMP,ContextTokens,GeneratedTokens. @throws TraceError */
export function readTrace(csv: string, count: number): TraceRow[] {
  const records = parse(csv, { columns: true, trim: true, skip_empty_lines: true, to: count, bom: true }) as Record<
    string,
    string
  >[];
  if (records.length < count) throw new TraceError(`the trace has ${records.length} rows, ${count} are wanted`);
  let first: number | undefined;
  return records.map((record, index) => {
    const time = milliseconds(record['TIMESTAMP'] ?? '');
    const contextTokens = Number(record['ContextTokens']);
    const generatedTokens = Number(record['GeneratedTokens']);
    for (const tokens of [contextTokens, generatedTokens]) {
      if (!Number.isInteger(tokens) || tokens < 1) throw new TraceError(`row ${index}: not a request`);
    }
    if (Number.isNaN(time)) throw new TraceError(`row ${index}: not a time`);
    first ??= time;
    return { index, at: time - first, contextTokens, generatedTokens };
  });
}

/** `2023-11-16 18:15:46.6805900`, with seven decimals, in milliseconds. */
function milliseconds(text: string): number {
  const match = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?/.exec(text);
  if (!match) return Number.NaN;
  return Date.parse(`${match[1]}T${match[2]}Z`) + Number(match[3] ?? 0) * 1000;
}

const SECONDS_FOR_500 = 20;

/** The speed at which a trace of these rows takes as long as 500 requests in 20 s. */
export function defaultSpeed(rows: readonly TraceRow[]): number {
  const span = rows.at(-1)?.at ?? 0;
  return Math.max(1e-6, span / ((rows.length / 500) * SECONDS_FOR_500 * 1000));
}

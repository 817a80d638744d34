import { rfc3339 } from '@sluice/primitives/clock';
import { csvLine } from '@sluice/service-kit';
import type { EXPORT_FORMATS } from './usage-params.js';
import type { UsageQuery } from './usage-query.js';
import { usageRow, type SummedRow } from './usage-row.js';

export type ExportFormat = (typeof EXPORT_FORMATS)[number];
export const CONTENT_TYPES: Readonly<Record<ExportFormat, string>> = {
  csv: 'text/csv; charset=utf-8',
  jsonl: 'application/jsonl; charset=utf-8',
};

const date = (time: number): string => rfc3339(time).slice(0, 10);

/** With the days of the first and the last millisecond. */
export const fileName = ({ from, to }: Pick<UsageQuery, 'from' | 'to'>, format: ExportFormat): string =>
  `usage_${date(from)}_${date(to - 1)}.${format}`;

/** What stands above the rows: the names of a row's fields, where the format has none of its own. */
export const exportHead = (format: ExportFormat, query: UsageQuery): string =>
  format === 'csv' ? csvLine(cells(usageRow(nothing(query))).map(([name]) => name)) : '';

export function exportRows(format: ExportFormat, rows: readonly SummedRow[]): string {
  return rows
    .map(usageRow)
    .map((row) => (format === 'csv' ? csvLine(cells(row).map(([, value]) => value)) : `${JSON.stringify(row)}\n`))
    .join('');
}

/** Fields of fields are columns of their own: `latency.ttftMs.p50`. */
const cells = (fields: object): [name: string, value: unknown][] =>
  Object.entries(fields).flatMap(([name, value]: [string, unknown]): [string, unknown][] =>
    typeof value === 'object' && value !== null
      ? cells(value).map(([inner, cell]) => [`${name}.${inner}`, cell])
      : [[name, value]],
  );

/** A row with the fields that this query's have. */
const nothing = ({ granularity, columns, include }: UsageQuery): SummedRow => ({
  ...(granularity === 'total' ? {} : { bucket: 0 }),
  ...Object.fromEntries(columns.map((column) => [column, ''])),
  key_name: null,
  requests: '0',
  ok: '0',
  errors: '0',
  aborted: '0',
  input_tokens: '0',
  cached_input_tokens: '0',
  output_tokens: '0',
  reasoning_tokens: '0',
  audio_ms: '0',
  embeddings: '0',
  cost: '0',
  ...(include.includes('latency') ? { ttft: new Map(), duration: new Map() } : {}),
});

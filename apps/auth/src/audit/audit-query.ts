import type { AuditEntry } from '@sluice/contracts/audit';
import { csvLine } from '@sluice/service-kit';
import { z } from 'zod';

const text = z.string().min(1).max(512);
const seq = z
  .string()
  .regex(/^[1-9]\d{0,15}$/, 'must be what nextCursor gave')
  .transform(Number);

/** What of a chain is wanted: times from (included) and to (not included), and exact texts. */
const filters = {
  from: z.iso.datetime({ offset: true }).optional(),
  to: z.iso.datetime({ offset: true }).optional(),
  /** A member's finds all its sessions. */
  actor: text.optional(),
  action: text.optional(),
  target: text.optional(),
};

export const listSchema = z.strictObject({
  ...filters,
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
  cursor: seq.optional(),
});
export const exportSchema = z.strictObject({
  ...filters,
  format: z.enum(['jsonl', 'csv']).default('jsonl'),
  /** The last number that was exported before. */
  after: seq.default(0),
});
export type AuditFilters = Pick<z.infer<typeof listSchema>, 'from' | 'to' | 'actor' | 'action' | 'target'>;

/** An entry as it is shown: with its place in the chain, and the address where it is still known. */
export interface ShownEntry extends AuditEntry {
  readonly seq: number;
  readonly address: string | null;
  readonly previousHash: string;
  readonly hash: string;
}

const COLUMNS = [
  'seq',
  'at',
  'actor',
  'action',
  'target',
  'requestId',
  'address',
  'addressDigest',
  'changes',
  'previousHash',
  'hash',
] as const satisfies readonly (keyof ShownEntry)[];

export type ExportFormat = z.infer<typeof exportSchema>['format'];
export const CONTENT_TYPES: Readonly<Record<ExportFormat, string>> = {
  jsonl: 'application/jsonl; charset=utf-8',
  csv: 'text/csv; charset=utf-8',
};

/** Of the first part only: the parts behind each other are one file. */
export const exportHead = (format: ExportFormat, after: number): string =>
  format === 'csv' && after === 0 ? `${COLUMNS.join(',')}\r\n` : '';

export const exportLine = (format: ExportFormat, entry: ShownEntry): string =>
  format === 'csv' ? csvLine(COLUMNS.map((name) => entry[name])) : `${JSON.stringify(entry)}\n`;

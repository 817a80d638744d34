import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { auditHeadLineSchema, type AuditHead } from '@sluice/contracts/audit';

export interface ExportedHeads {
  /** Every head that was ever exported, by organization and number: the same number twice must have the same hash. */
  readonly heads: readonly (AuditHead & { readonly at: string })[];
  /** Exports that got to their end. */
  readonly exports: number;
  /** Lines that a process which was killed left half written. */
  readonly unreadable: number;
}

/** Reads a file of heads line by line. @throws Error when it can't be read */
export async function readHeads(file: string): Promise<ExportedHeads> {
  const heads = new Map<string, AuditHead & { at: string }>();
  let exports = 0;
  let unreadable = 0;
  for await (const line of createInterface({ input: createReadStream(file, 'utf8') })) {
    if (line === '') continue;
    const parsed = parse(line);
    if (parsed === undefined) unreadable += 1;
    else if ('chains' in parsed) exports += 1;
    else heads.set(`${parsed.organizationId}\n${parsed.seq}\n${parsed.hash}`, parsed);
  }
  return { heads: [...heads.values()], exports, unreadable };
}

function parse(line: string) {
  try {
    const { success, data } = auditHeadLineSchema.safeParse(JSON.parse(line));
    return success ? data : undefined;
  } catch {
    return undefined;
  }
}

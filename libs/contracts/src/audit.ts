import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * The audit trail: what happened, who did it, in a chain of hashes per organization. What is exported can be verified
 * with this file alone, so it says how an entry becomes a hash.
 */
export const auditEntrySchema = z.object({
  at: z.iso.datetime(),
  /** `kind:id` of the credential, `member:<member>/<session>`, `system:<what>`. */
  actor: z.string(),
  /** `key.issued`, or method and path of a command that another service carried out: `POST /api/operator/credits`. */
  action: z.string(),
  /** What it was done to: `key:<id>`, `workload:<project>/<name>`, or the path that was called. */
  target: z.string(),
  requestId: z.string().nullable(),
  /** What changed, without secrets, their digests and personal data. */
  changes: z.record(z.string(), z.unknown()),
  /** Of the caller's network address, which is kept apart and can be erased: see `addressDigest`. */
  addressDigest: z.string().nullable(),
});
export type AuditEntry = z.infer<typeof auditEntrySchema>;

/** An entry in its chain. `entry` is the canonical JSON of an AuditEntry: its bytes are what is hashed. */
export interface ChainedEntry {
  /** '' = the platform's own chain. */
  readonly organizationId: string;
  /** From 1, without gaps. */
  readonly seq: number;
  /** Of the entry before, '' for the first. */
  readonly previousHash: string;
  readonly hash: string;
  readonly entry: string;
}

/** JSON with the names of every object sorted: one text for one meaning. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_name, inner: unknown) => {
    if (typeof inner === 'bigint') return inner.toString();
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    // From entries, as `__proto__` is a name like any other here.
    return Object.fromEntries(Object.entries(inner).toSorted(([one], [other]) => (one < other ? -1 : 1)));
  });
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Hexadecimal SHA-256 of organization, number, previous hash and entry, a line feed between them. */
export const auditHash = ({ organizationId, seq, previousHash, entry }: Omit<ChainedEntry, 'hash'>): string =>
  sha256(`${organizationId}\n${seq}\n${previousHash}\n${entry}`);

/** Hexadecimal SHA-256 of salt and address: once the salt is erased, the address can't be guessed from it. */
export const addressDigest = (salt: string, address: string): string => sha256(`${salt}${address}`);

/** The last entry of a chain. */
export type AuditHead = Pick<ChainedEntry, 'organizationId' | 'seq' | 'hash'>;

/** What is wrong with an entry that should follow `head`; undefined when it does. */
export function chainFault(head: Pick<AuditHead, 'seq' | 'hash'>, next: ChainedEntry): string | undefined {
  if (next.seq !== head.seq + 1) return `entry ${next.seq} follows entry ${head.seq}: what was between them is gone`;
  if (next.previousHash !== head.hash) return `entry ${next.seq} does not follow the entry before it`;
  return next.hash === auditHash(next) ? undefined : `entry ${next.seq} is not what was hashed`;
}

/** A line of the heads that auth exports outside its database; the last one of an export counts the others. */
export const auditHeadLineSchema = z.union([
  z.strictObject({
    at: z.iso.datetime(),
    organizationId: z.string(),
    seq: z.number().int().positive(),
    hash: z.string().length(64),
  }),
  z.strictObject({ at: z.iso.datetime(), chains: z.number().int().nonnegative() }),
]);

/** POST /internal/audit — a command that another service carries out: recorded before it is forwarded, with its actor. */
export const auditedCommandSchema = z.strictObject({
  /** Method and path of the operation, as in OPERATIONS. */
  action: z.string().min(1).max(200),
  /** The path that was called, without the query. */
  target: z.string().min(1).max(512),
  /** The fields of the body that the operation names as audited. */
  fields: z.record(z.string().max(64), z.unknown()),
  /** The status it was answered with; absent before it is forwarded. */
  status: z.number().int().min(100).max(599).optional(),
});
export type AuditedCommand = z.infer<typeof auditedCommandSchema>;

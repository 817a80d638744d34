import type { AuditEntry } from '@sluice/contracts/audit';
import { assert } from '@sluice/primitives/assert';

/** The organization of the canaries: outside audit and lists. */
export const SYSTEM_ORGANIZATION = 'system';
/** The chain of what is no organization's: operators and their credentials. */
export const PLATFORM = '';

/** An event, as much of it as an entry is made of. */
export interface Audited {
  readonly streamId: string;
  readonly event: { readonly type: string; readonly data: unknown };
  readonly metadata: { readonly actor: string; readonly requestId?: string };
  readonly recordedAt: Date;
}

/** Whose chain an event belongs to. */
export function organizationOf({ streamId, event }: Pick<Audited, 'streamId' | 'event'>): string {
  const organizationId = dataOf(event)['organizationId'];
  if (typeof organizationId === 'string') return organizationId;
  if (streamId.startsWith('organization-')) return streamId.slice('organization-'.length);
  // Without it a customer's event would stand in the platform's chain, and nobody would notice.
  assert(organizationId === null, `${event.type} does not say whose it is`);
  return PLATFORM;
}

/** The entry of an event, but for the address. */
export function entryOf({ streamId, event, metadata, recordedAt }: Audited): Omit<AuditEntry, 'addressDigest'> {
  return {
    at: recordedAt.toISOString(),
    actor: metadata.actor,
    action: actionOf(event.type),
    target: targetOf(streamId, dataOf(event)),
    requestId: metadata.requestId ?? null,
    changes: withoutSecrets(dataOf(event)),
  };
}

/** `KeyPreviousSecretUsed` → `key.previous_secret_used` */
export function actionOf(type: string): string {
  const [aggregate, ...rest] = type.split(/(?=[A-Z])/).map((word) => word.toLowerCase());
  return `${aggregate}.${rest.join('_')}`;
}

function targetOf(streamId: string, { project, workload }: Readonly<Record<string, unknown>>): string {
  if (streamId.startsWith('organization-') && typeof project === 'string')
    return typeof workload === 'string' ? `workload:${project}/${workload}` : `project:${project}`;
  return streamId.replace('-', ':');
}

/**
 * Whose address it is, so that it goes when the person is erased: the member's behind the session, or of who signs in
 * with no credential yet.
 */
export function memberOf({ event, metadata }: Pick<Audited, 'event' | 'metadata'>): string | null {
  const member = /^member:([^/]+)/.exec(metadata.actor)?.[1];
  if (member !== undefined) return member;
  const { memberId } = dataOf(event);
  return metadata.actor.startsWith('anonymous:') && typeof memberId === 'string' ? memberId : null;
}

const SECRET = /digest|secret$|password/i;

/** Events hold no secrets, but digests of them: these stay in the log that they are for. */
function withoutSecrets(value: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !SECRET.test(name))
      .map(([name, inner]) => [name, isRecord(inner) ? withoutSecrets(inner) : inner]),
  );
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const dataOf = ({ data }: Audited['event']): Readonly<Record<string, unknown>> => (isRecord(data) ? data : {});

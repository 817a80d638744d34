import { eventCodec, type EventsOf } from '@sluice/event-sourcing';
import { revokeReasonSchema, scopeSchema, type RevokeReason } from '@sluice/contracts/auth';
import { z } from 'zod';

const time = z.iso.datetime();

/** How the events of a key are stored. A storage format: never changed, only added to. No secrets: a digest at most. */
export const keyEvents = {
  KeyIssued: z.object({
    keyId: z.string(),
    kind: z.enum(['credit', 'management', 'operator']),
    organizationId: z.string().nullable(),
    project: z.string().nullable(),
    name: z.string(),
    description: z.string().nullable(),
    tags: z.array(z.string()),
    /** base64url SHA-256 of the secret. */
    digest: z.string().length(43),
    keyPrefix: z.string(),
    scopes: z.array(scopeSchema),
    access: z.array(z.string()),
    models: z.array(z.string()).nullable(),
    expiresAt: time.nullable(),
    rpm: z.number().int().positive().nullable(),
    issuedAt: time,
  }),
  /** Repeats of whom it was, so that what is published of it needs no look-up. */
  KeyRevoked: z.object({
    keyId: z.string(),
    organizationId: z.string().nullable(),
    project: z.string().nullable(),
    keyPrefix: z.string(),
    reason: revokeReasonSchema,
    revokedAt: time,
  }),
} as const;

export const keyCodec = eventCodec(keyEvents);
export type KeyEvent = EventsOf<typeof keyEvents>;
export type IssuedKey = z.output<(typeof keyEvents)['KeyIssued']>;

export type KeyState =
  | { readonly status: 'none' }
  | { readonly status: 'active'; readonly issued: IssuedKey }
  | { readonly status: 'revoked'; readonly issued: IssuedKey; readonly reason: RevokeReason };

export function evolve(state: KeyState, event: KeyEvent): KeyState {
  switch (event.type) {
    case 'KeyIssued':
      return { status: 'active', issued: event.data };
    case 'KeyRevoked':
      return state.status === 'none' ? state : { status: 'revoked', issued: state.issued, reason: event.data.reason };
    default:
      return state;
  }
}

export const keyStream = (keyId: string): string => `key-${keyId}`;

import { eventCodec, type EventsOf } from '@sluice/event-sourcing';
import { z } from 'zod';

const time = z.iso.datetime();
const ofSession = { sessionId: z.string(), organizationId: z.string(), memberId: z.string() };

export const sessionEndSchema = z.enum([
  'logout',
  'member_removed',
  'role_changed',
  'password_changed',
  /** The person's provider was linked: what was signed in before it is not proven to be the same person. */
  'identity_linked',
  'erased',
  'expired',
  /** Somebody found its secret and said so. */
  'leaked',
  /** The member had too many at once. */
  'replaced',
]);
export type SessionEnd = z.infer<typeof sessionEndSchema>;

/** How the events of a signed-in member's session are stored. A storage format: only added to. A digest at most. */
export const sessionEvents = {
  SessionStarted: z.object({
    ...ofSession,
    /** base64url SHA-256 of the session's secret. */
    digest: z.string().length(43),
    method: z.enum(['password', 'invitation', 'oidc']),
    startedAt: time,
    expiresAt: time,
  }),
  SessionEnded: z.object({ ...ofSession, reason: sessionEndSchema, endedAt: time }),
} as const;

export const sessionCodec = eventCodec(sessionEvents);
export type SessionEvent = EventsOf<typeof sessionEvents>;
export type StartedSession = z.output<(typeof sessionEvents)['SessionStarted']>;

export interface SessionState {
  readonly started: StartedSession | undefined;
  readonly ended: SessionEnd | undefined;
}

export const noSession: SessionState = { started: undefined, ended: undefined };

export function evolve(state: SessionState, event: SessionEvent): SessionState {
  switch (event.type) {
    case 'SessionStarted':
      return { ...state, started: event.data };
    case 'SessionEnded':
      return { ...state, ended: event.data.reason };
    default:
      return state;
  }
}

export const sessionStream = (sessionId: string): string => `session-${sessionId}`;

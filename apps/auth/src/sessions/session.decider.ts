import { Rejected } from '@sluice/contracts/errors';
import type { Decider } from '@sluice/event-sourcing';
import {
  evolve,
  noSession,
  type SessionEnd,
  type SessionEvent,
  type SessionState,
  type StartedSession,
} from './session.js';

export type SessionCommand =
  | { readonly type: 'start'; readonly session: StartedSession }
  | { readonly type: 'end'; readonly reason: SessionEnd; readonly at: string };

export const sessionDecider: Decider<SessionCommand, SessionState, SessionEvent> = {
  initial: noSession,
  evolve,
  decide(command, state) {
    if (command.type === 'start') return state.started ? [] : [{ type: 'SessionStarted', data: command.session }];
    if (!state.started) throw new Rejected('not_found', 'There is no such session.');
    if (state.ended) return [];
    const { sessionId, organizationId, memberId } = state.started;
    const { reason, at } = command;
    return [{ type: 'SessionEnded', data: { sessionId, organizationId, memberId, reason, endedAt: at } }];
  },
};

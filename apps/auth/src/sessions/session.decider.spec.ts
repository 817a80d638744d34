import { describe, expect, it } from '@jest/globals';
import { deciderSpec } from '@sluice/testing';
import type { SessionEvent } from './session.js';
import { sessionDecider } from './session.decider.js';
import { publishSession } from './session.publisher.js';

const at = '2026-01-01T00:00:00.000Z';
const of = { sessionId: 's1', organizationId: 'o1', memberId: 'm1' };
const session = {
  ...of,
  digest: 'd'.repeat(43),
  method: 'password' as const,
  startedAt: at,
  expiresAt: '2026-01-01T12:00:00.000Z',
};
const started: SessionEvent = { type: 'SessionStarted', data: session };
const ended: SessionEvent = { type: 'SessionEnded', data: { ...of, reason: 'logout', endedAt: at } };
const end = { type: 'end', reason: 'logout', at } as const;

const { given } = deciderSpec(sessionDecider);

describe('a session', () => {
  it('starts once and ends once, for one reason', () => {
    given().when({ type: 'start', session }).yields(started);
    given(started).when(end).yields(ended);
    given(started, ended)
      .when({ ...end, reason: 'member_removed' })
      .yields();
    given().when(end).refuses('not_found');
  });

  it('tells the gateways of its end, and nobody of anything else', () => {
    const stored = {
      id: 'e1',
      streamId: 'session-s1',
      version: 2,
      globalPosition: 1n,
      metadata: { actor: 'session:s1', correlationId: 'c' },
      recordedAt: new Date(at),
    };
    expect(publishSession({ ...stored, event: started })).toEqual([]);
    expect(publishSession({ ...stored, event: ended })).toEqual([
      { id: 'e1:keyfeed:s1', subject: 'keyfeed.key.s1', payload: { id: 's1', version: 2, inflight: 'cut' } },
    ]);
  });
});

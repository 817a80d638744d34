import { describe, expect, it } from '@jest/globals';
import { actionOf, entryOf, memberOf, organizationOf, PLATFORM } from './entry.js';

const at = new Date('2026-01-01T00:00:00.000Z');
const metadata = { actor: 'management:k', requestId: 'r1' };
const of = (streamId: string, type: string, data: unknown, actor = metadata.actor) => ({
  streamId,
  event: { type, data },
  metadata: { ...metadata, actor },
  recordedAt: at,
});

describe('an audit entry', () => {
  it('says what happened to what, by whom, on which request, and what changed', () => {
    expect(entryOf(of('key-7', 'KeyPreviousSecretUsed', { keyId: '7', day: '2026-01-01' }))).toEqual({
      at: '2026-01-01T00:00:00.000Z',
      actor: 'management:k',
      action: 'key.previous_secret_used',
      target: 'key:7',
      requestId: 'r1',
      changes: { keyId: '7', day: '2026-01-01' },
    });
    expect(actionOf('OrganizationSuspended')).toBe('organization.suspended');
  });

  it('names the workload or project that an event of an organization is about', () => {
    const workload = of('organization-o1', 'WorkloadEnsured', { project: 'p', workload: 'w', model: 'm' });
    expect(entryOf(workload).target).toBe('workload:p/w');
    expect(entryOf(of('organization-o1', 'ProjectCreated', { project: 'p' })).target).toBe('project:p');
    expect(entryOf(of('organization-o1', 'OrganizationCreated', { organizationId: 'o1' })).target).toBe(
      'organization:o1',
    );
  });

  it('holds no digest of a secret, however deep it lies', () => {
    const data = {
      digest: 'a',
      previousDigest: 'b',
      keyPrefix: 'sk_live_12345678',
      inner: { passwordHash: 'c', rpm: 1 },
    };
    expect(entryOf(of('key-7', 'KeyRotated', data)).changes).toEqual({
      keyPrefix: 'sk_live_12345678',
      inner: { rpm: 1 },
    });
  });

  it('stands in the chain of its organization; what is nobody’s in the platform’s; what does not say so is refused', () => {
    expect(organizationOf(of('key-7', 'KeyIssued', { organizationId: 'o1' }))).toBe('o1');
    expect(organizationOf(of('organization-o1', 'ProjectCreated', { project: 'p' }))).toBe('o1');
    expect(organizationOf(of('key-7', 'KeyIssued', { organizationId: null }))).toBe(PLATFORM);
    expect(() => organizationOf(of('key-7', 'KeyExpiring', { days: 3 }))).toThrow('does not say whose');
  });

  it('knows whose address it is: of the member behind a session, or of who signs in', () => {
    expect(memberOf(of('key-7', 'KeyIssued', {}, 'member:m1/s1'))).toBe('m1');
    expect(memberOf(of('session-1', 'SessionStarted', { memberId: 'm2' }, 'anonymous:'))).toBe('m2');
    expect(memberOf(of('member-3', 'MemberRemoved', { memberId: 'm3' }, 'member:m1/s1'))).toBe('m1');
    expect(memberOf(of('member-3', 'MemberRemoved', { memberId: 'm3' }))).toBeNull();
  });
});

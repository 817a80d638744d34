import { describe, expect, it } from '@jest/globals';
import { bulkRevokeSchema, selectionOf } from './bulk-revoke.js';
import { together } from './together.js';

const MEMBER = '01890000-0000-7000-8000-000000000000';
const select = (body: object, project: string | null = null) =>
  selectionOf(bulkRevokeSchema.parse(body), 'o1', { project });

describe('a bulk revoke', () => {
  it('deactivates unless it is told to delete: what was a mistake can be undone', () => {
    expect(bulkRevokeSchema.parse({ tag: 't' }).reason).toBe('deactivated');
    expect(bulkRevokeSchema.safeParse({ tag: 't', reason: 'leaked' }).success).toBe(false);
  });

  it.each([
    [{ project: 'a' }, { project: 'a', memberId: undefined, tag: undefined }],
    [{ memberId: MEMBER }, { project: undefined, memberId: MEMBER, tag: undefined }],
    [{ tag: 't' }, { project: undefined, memberId: undefined, tag: 't' }],
  ])('%j means %j', (body, meant) => {
    expect(select(body)).toEqual({ organizationId: 'o1', ...meant });
  });

  it('never goes beyond the project of who asks', () => {
    expect(select({ tag: 't' }, 'a')).toMatchObject({ project: 'a', tag: 't' });
    expect(select({ memberId: MEMBER }, 'a')).toMatchObject({ project: 'a', memberId: MEMBER });
    expect(() => select({ project: 'b' }, 'a')).toThrow(expect.objectContaining({ code: 'project_scope_mismatch' }));
  });

  it.each([{}, { project: 'a', tag: 't' }, { memberId: MEMBER, tag: 't', project: 'a' }])(
    'by none or several is refused: %j',
    (body) => {
      expect(() => select(body)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    },
  );
});

describe('several procedures as one', () => {
  const done = (confirmed: number, of: number, ms: number) => ({ inForce: { confirmed, of, ms } });

  it('are in force when all are, and pending when one is', () => {
    expect(together([done(2, 2, 5), done(1, 3, 7)])).toEqual(done(1, 3, 7));
    expect(together([done(2, 2, 5), { pending: true }])).toEqual({ pending: true });
    expect(together([])).toEqual(done(0, 0, 0));
    expect(together([done(0, 0, 1), done(2, 2, 5)])).toEqual(done(2, 2, 5));
  });
});

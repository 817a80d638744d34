import { describe, expect, it } from '@jest/globals';
import { keyPatch } from './key-patch.js';
import { updateKeySchema } from './key-requests.js';

const NOW = Date.parse('2026-03-01T12:00:00.000Z');
const credit = { kind: 'credit' as const, maxBudget: null, budgetReset: null };
const budgeted = { kind: 'credit' as const, maxBudget: '1000000', budgetReset: 'daily' as const };
const patch = (key: Parameters<typeof keyPatch>[0], body: object, project: string | null = null) =>
  keyPatch(key, updateKeySchema.parse(body), project, NOW);

describe('a change of a key', () => {
  it('says nothing of what is left out', () => {
    expect(patch(budgeted, { name: 'other' })).toEqual({ name: 'other' });
  });

  it('takes null for "take it away", and a date for 00:00 UTC of it', () => {
    expect(patch(credit, { tpm: null, expiresAt: null })).toEqual({ tpm: null, expiresAt: null });
    expect(patch(credit, { expiresAt: '2026-04-01' })).toEqual({ expiresAt: '2026-04-01T00:00:00.000Z' });
  });

  it('takes the period away with the budget, and keeps it with another one', () => {
    expect(patch(budgeted, { maxBudget: null })).toEqual({ maxBudget: null, budgetReset: null });
    expect(patch(budgeted, { maxBudget: 5_000_000n })).toEqual({ maxBudget: '5000000' });
    expect(patch(budgeted, { budgetReset: null })).toEqual({ budgetReset: null });
    expect(patch(budgeted, { budgetReset: 'weekly' })).toEqual({ budgetReset: 'weekly' });
  });

  it.each([
    [credit, { budgetReset: 'daily' }, null, 'invalid_request', 'budgetReset'],
    [budgeted, { maxBudget: null, budgetReset: 'daily' }, null, 'invalid_request', 'budgetReset'],
    [credit, { expiresAt: '2026-02-01' }, null, 'invalid_request', 'expiresAt'],
    [{ ...credit, kind: 'subscription' as const }, { expiresAt: null }, null, 'invalid_request', 'expiresAt'],
    [credit, { access: ['team-a/*', 'other/chat'] }, 'team-a', 'project_scope_mismatch', 'access'],
  ])('of %j refuses %j, in project %s, with %s naming %s', (key, body, project, code, param) => {
    expect(() => patch(key, body, project)).toThrow(expect.objectContaining({ code, param }));
  });
});

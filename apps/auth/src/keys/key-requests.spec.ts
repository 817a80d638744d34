import { describe, expect, it } from '@jest/globals';
import { creditKeySchema, creditKeySettings, refuseNotYet } from './key-requests.js';

const NOW = Date.parse('2026-03-01T12:00:00.000Z');
const settings = (body: object, project: string | null = null) =>
  creditKeySettings(creditKeySchema.parse({ name: 'n', ...body }), project, NOW);

describe('settings of a credit key', () => {
  it('fills in the defaults of the product: 60 rpm, read and write, the whole project', () => {
    expect(settings({})).toMatchObject({
      rpm: 60,
      scopes: ['inference:read', 'inference:write'],
      access: ['default/*'],
      expiresAt: null,
    });
    expect(settings({}, 'team-a')).toMatchObject({ project: 'team-a', access: ['team-a/*'] });
  });

  it('takes a date as 00:00 UTC of it, and days from now', () => {
    expect(settings({ expiresAt: '2026-04-01' }).expiresAt).toBe('2026-04-01T00:00:00.000Z');
    expect(settings({ expiresAt: '2026-04-01T02:00:00+02:00' }).expiresAt).toBe('2026-04-01T00:00:00.000Z');
    expect(settings({ expires_in_days: 90 }).expiresAt).toBe('2026-05-30T12:00:00.000Z');
  });

  it.each([
    ['scope_not_allowed', { scopes: ['admin'] }, null],
    ['invalid_request', { expiresAt: '2026-02-01' }, null],
    ['invalid_request', { expiresAt: '2026-04-01', expires_in_days: 3 }, null],
    ['project_scope_mismatch', { access: ['other/*'] }, 'team-a'],
  ])('refuses with %s: %j', (code, body, project) => {
    expect(() => settings(body, project)).toThrow(expect.objectContaining({ code }));
  });

  it.each([
    { name: '' },
    { name: 'x'.repeat(81) },
    { rpm: 0 },
    { rpm: 1.5 },
    { access: ['*'] },
    { access: ['Default/x'] },
    { unknown: 1 },
  ])('has no place for %j', (body) => {
    expect(creditKeySchema.safeParse({ name: 'n', ...body }).success).toBe(false);
  });

  it('refuses by name what is not enforced yet instead of keeping it', () => {
    expect(() => refuseNotYet({ name: 'n', maxBudget: 5 })).toThrow(
      expect.objectContaining({ code: 'not_implemented', param: 'maxBudget' }),
    );
    expect(() => refuseNotYet({ name: 'n', tpm: null })).not.toThrow();
  });
});

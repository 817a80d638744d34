import { describe, expect, it } from '@jest/globals';
import { creditKeySchema, creditKeySettings, expiryOf, rotateSchema, updateKeySchema } from './key-requests.js';

const NOW = Date.parse('2026-03-01T12:00:00.000Z');
const settings = (body: object, project: string | null = null) =>
  creditKeySettings(creditKeySchema.parse({ name: 'n', ...body }), project, NOW);

describe('settings of a credit key', () => {
  it('fills in the defaults of the product: 60 rpm, read and write, the whole project, nothing else limited', () => {
    expect(settings({})).toEqual({
      project: 'default',
      name: 'n',
      description: null,
      tags: [],
      rpm: 60,
      tpm: null,
      concurrency: null,
      priority: null,
      maxBudget: null,
      budgetReset: null,
      models: null,
      ipAllow: null,
      scopes: ['inference:read', 'inference:write'],
      access: ['default/*'],
      expiresAt: null,
    });
    expect(settings({}, 'team-a')).toMatchObject({ project: 'team-a', access: ['team-a/*'] });
    expect(settings({ project: 'team-b' })).toMatchObject({ project: 'team-b', access: ['team-b/*'] });
  });

  it('takes everything that a key can have', () => {
    const all = {
      description: 'two\nlines',
      tags: ['a', 'b'],
      rpm: 1,
      tpm: 1_000_000_000,
      concurrency: 10_000,
      priority: 0,
      maxBudget: 25_000_000_000_000n,
      budgetReset: 'monthly',
      models: ['m'],
      ipAllow: ['192.0.2.1', '2001:db8::/32'],
      scopes: ['analytics:read'],
      access: ['default/chat', 'other/*'],
    };
    expect(settings(all)).toMatchObject({ ...all, maxBudget: '25000000000000' });
  });

  it('keeps what is said twice once', () => {
    expect(settings({ tags: ['a', 'a'], access: ['default/*', 'default/*'] })).toMatchObject({
      tags: ['a'],
      access: ['default/*'],
    });
  });

  it('takes a date as 00:00 UTC of it, and days from now', () => {
    expect(settings({ expiresAt: '2026-04-01' }).expiresAt).toBe('2026-04-01T00:00:00.000Z');
    expect(settings({ expiresAt: '2026-04-01T02:00:00+02:00' }).expiresAt).toBe('2026-04-01T00:00:00.000Z');
    expect(settings({ expires_in_days: 90 }).expiresAt).toBe('2026-05-30T12:00:00.000Z');
  });

  it.each([
    ['scope_not_allowed', 'scopes', { scopes: ['inference:read', 'admin'] }, null],
    ['invalid_request', 'expiresAt', { expiresAt: '2026-02-01' }, null],
    ['invalid_request', 'expires_in_days', { expiresAt: '2026-04-01', expires_in_days: 3 }, null],
    ['invalid_request', 'budgetReset', { budgetReset: 'daily' }, null],
    ['project_scope_mismatch', 'access', { access: ['other/*'] }, 'team-a'],
    ['project_scope_mismatch', 'project', { project: 'other' }, 'team-a'],
  ])('refuses with %s, naming %s: %j', (code, param, body, project) => {
    expect(() => settings(body, project)).toThrow(expect.objectContaining({ code, param }));
  });

  it('says where a key with the scope admin is made', () => {
    expect(() => settings({ scopes: ['admin'] })).toThrow(/POST \/api\/keys\/management/);
  });
});

/** Too small, too large, of another type, not of the form: all of it names its field. */
const REFUSED: [string, unknown[]][] = [
  ['name', ['', ' ', 'x'.repeat(81), 1, null, 'a\u0000b', 'a\nb', '\ud800']],
  ['description', ['x'.repeat(501), 1, '\u0000']],
  ['tags', [Array.from({ length: 21 }, String), [''], ['x'.repeat(41)], ['a\u0007'], 'a', null]],
  [
    'access',
    [['*'], ['Default/x'], ['default'], ['a/b/c'], ['../*'], Array.from({ length: 101 }, (_, i) => `a/b${i}`)],
  ],
  ['models', [[], [''], ['x'.repeat(257)], 'm', Array.from({ length: 101 }, String)]],
  [
    'ipAllow',
    [
      [],
      ['example.com'],
      ['192.0.2.1/33'],
      ['192.0.2.1/'],
      ['2001:db8::/129'],
      ['fe80::1%eth0'],
      ['1.2.3'],
      ['192.0.2.1/08'],
      ['192.0.2.1/8/8'],
      Array.from({ length: 101 }, (_, i) => `192.0.2.${i}`),
    ],
  ],
  ['rpm', [0, -1, 1.5, 10_000_001, '60', null]],
  ['tpm', [0, 1.5, 1_000_000_001, '1']],
  ['concurrency', [0, 10_001, 0.5]],
  ['priority', [-1, 10, 1.5, 'high']],
  ['maxBudget', [25, '25', -1n, 10n ** 30n]],
  ['budgetReset', ['yearly', 1]],
  ['expiresAt', ['tomorrow', '2026-02-30', 1, '2026-04-01T00:00:00']],
];

describe.each([
  ['a new credit key', creditKeySchema],
  ['a change of a key', updateKeySchema],
])('%s', (_, schema) => {
  it.each(REFUSED.flatMap(([field, values]) => values.map((value) => [field, value] as const)))(
    'has no %s like %p',
    (field, value) => {
      const result = schema.safeParse({ name: 'n', maxBudget: 1n, [field]: value });
      expect(result.error?.issues[0]?.path[0]).toBe(field);
    },
  );

  it('knows no other fields', () => {
    expect(schema.safeParse({ name: 'n', unknown: 1 }).error?.issues[0]).toMatchObject({ keys: ['unknown'] });
  });
});

describe('a change of a key', () => {
  it('can take away what a key need not have, and nothing else', () => {
    const nullable = ['description', 'models', 'ipAllow', 'tpm', 'concurrency', 'priority', 'maxBudget', 'budgetReset'];
    for (const field of [...nullable, 'expiresAt'])
      expect([field, updateKeySchema.safeParse({ [field]: null }).success]).toEqual([field, true]);
    for (const field of ['name', 'tags', 'access', 'rpm', 'isActive'])
      expect([field, updateKeySchema.safeParse({ [field]: null }).success]).toEqual([field, false]);
  });

  it('cannot change what a key is', () => {
    for (const field of ['scopes', 'project', 'keyType', 'expires_in_days'])
      expect([field, updateKeySchema.safeParse({ [field]: 1 }).success]).toEqual([field, false]);
  });
});

describe('a rotation', () => {
  it('has no grace unless it is asked for, and a week at most; its body may be left out', () => {
    expect(rotateSchema.parse(undefined)).toEqual({ graceSeconds: 0 });
    expect(rotateSchema.parse({ graceSeconds: 604_800 })).toEqual({ graceSeconds: 604_800 });
    for (const graceSeconds of [-1, 604_801, 0.5, '1', null])
      expect(rotateSchema.safeParse({ graceSeconds }).success).toBe(false);
  });

  it('tells "no other end" from "never"', () => {
    expect(expiryOf({}, NOW)).toBeUndefined();
    expect(expiryOf({ expiresAt: null }, NOW)).toBeNull();
  });
});

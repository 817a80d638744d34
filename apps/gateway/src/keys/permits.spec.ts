import { describe, expect, it } from '@jest/globals';
import type { Credential } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { permits } from './permits.js';

type Change = Partial<Credential>;
const workload = { project: 'default', name: 'chat', model: 'm', createdAt: '2026-01-01T00:00:00.000Z' };
const use = { scope: 'inference:write', address: '192.0.2.7', workload } as const;

describe('what a credential permits', () => {
  it.each<[string, Change, { address?: string }]>([
    ['project and workload', {}, {}],
    ['that one workload', { access: ['default/chat'] }, {}],
    ['an address that is listed', { ipAllow: ['192.0.2.7'] }, {}],
    ['an address in a block', { ipAllow: ['10.0.0.0/8', '192.0.2.0/24'] }, {}],
    ['an IPv4 address within IPv6', { ipAllow: ['192.0.2.0/24'] }, { address: '::ffff:192.0.2.7' }],
    ['an IPv6 block', { ipAllow: ['2001:db8::/32'] }, { address: '2001:db8::1' }],
    ['everything', { ipAllow: ['0.0.0.0/0'] }, {}],
  ])('is %s', (_what, rights, change) => {
    expect(() => permits(aCredential(rights), { ...use, ...change })).not.toThrow();
  });

  it.each<[string, Change, { address?: string }]>([
    ['ip_not_allowed', { ipAllow: ['192.0.2.8'] }, {}],
    ['ip_not_allowed', { ipAllow: ['2001:db8::/32'] }, {}],
    ['ip_not_allowed', { ipAllow: [] }, {}],
    ['ip_not_allowed', { ipAllow: ['nonsense', '192.0.2.0/99', '192.0.2.7/'] }, { address: '192.0.2.8' }],
    ['ip_not_allowed', { ipAllow: ['0.0.0.0/0'] }, { address: 'what a proxy says' }],
    ['scope_insufficient', { scopes: ['inference:read'] }, {}],
    ['scope_insufficient', { access: ['default/other', 'other/*'] }, {}],
    ['model_not_allowed', { models: ['other'] }, {}],
  ])('is refused with %s: %j', (code, rights, change) => {
    expect(() => permits(aCredential(rights), { ...use, ...change })).toThrow(expect.objectContaining({ code }));
  });
});

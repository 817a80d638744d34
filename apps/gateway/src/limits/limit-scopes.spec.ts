import { describe, expect, it } from '@jest/globals';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { limitScopes } from './limit-scopes.js';

const NONE = { rpm: null, tpm: null, concurrency: null };

describe('what a request counts against', () => {
  it('is nothing for a key that nobody limits, so that nobody is asked', () => {
    expect(limitScopes(aCredential(NONE))).toEqual([]);
  });

  it('is its key alone where project and organization have no limits', () => {
    expect(limitScopes(aCredential({ ...NONE, rpm: 60 }))).toEqual([
      { kind: 'key', name: '{o1}:key:k1', ...NONE, rpm: 60 },
    ]);
  });

  it('is key, project and organization in this order, in one place of a cluster, and shared with whom it is shared', () => {
    const limits = { projectLimits: { ...NONE, tpm: 5 }, organizationLimits: { ...NONE, concurrency: 6 } };
    const [key, project, organization] = limitScopes(aCredential(limits));
    expect([key?.kind, project, organization]).toEqual([
      'key',
      { kind: 'project', name: '{o1}:project:default', ...NONE, tpm: 5 },
      { kind: 'organization', name: '{o1}:organization:', ...NONE, concurrency: 6 },
    ]);
    const names = (change: object) => limitScopes(aCredential({ ...limits, ...change })).map(({ name }) => name);
    expect(names({ keyId: 'k2' }).slice(1)).toEqual([project!.name, organization!.name]);
    expect(names({ project: 'other' })[1]).not.toBe(project!.name);
    // A project of the same name in another organization is another.
    expect(names({ organizationId: 'o2' })[1]).not.toBe(project!.name);
    // A key that is called as a project is.
    expect(new Set(names({ keyId: 'default' })).size).toBe(3);
  });
});

import type { Credential, Limits } from '@sluice/contracts/auth';

export type ScopeKind = 'key' | 'project' | 'organization';

/** What is limited as one, and its limits: a key, all keys of a project, or all of an organization. */
export interface LimitScope extends Limits {
  readonly kind: ScopeKind;
  /** Of no other scope. The hash tag, the same in all of one request, keeps them on one node of a Redis cluster. */
  readonly name: string;
}

type Limited = Limits &
  Pick<Credential, 'keyId' | 'organizationId' | 'project' | 'organizationLimits' | 'projectLimits'>;

/** What a request on this credential counts against, the narrowest first: no scope without a limit. */
export function limitScopes(credential: Limited): readonly LimitScope[] {
  const { keyId, organizationId, project, projectLimits, organizationLimits, rpm, tpm, concurrency } = credential;
  const scopes: LimitScope[] = [];
  const add = (kind: ScopeKind, id: string, limits: Limits) =>
    scopes.push({ kind, name: `{${organizationId}}:${kind}:${id}`, ...limits });
  if (rpm !== null || tpm !== null || concurrency !== null) add('key', keyId, { rpm, tpm, concurrency });
  if (projectLimits !== null) add('project', project ?? '', projectLimits);
  if (organizationLimits !== null) add('organization', '', organizationLimits);
  return scopes;
}

import type { Credential, Scope, Workload } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { isWithin } from './address-blocks.js';

/** What a request wants to do with a credential. */
export interface Use {
  readonly scope: Scope;
  /** Of the client, as the edge found it. */
  readonly address: string;
  /** Where it goes; not known yet while the caller is only identified. */
  readonly workload?: Workload;
}

type Rights = Pick<Credential, 'scopes' | 'ipAllow' | 'access' | 'models'>;

/**
 * The rules of access, all of them: the same at admission, in the turn of the dispatch and before the first byte, as a
 * credential may have been narrowed meanwhile.
 * @throws Rejected `ip_not_allowed`, `scope_insufficient`, `model_not_allowed`
 */
export function permits(credential: Rights, { scope, address, workload }: Use): void {
  requireAddress(credential, address);
  if (!credential.scopes.includes(scope))
    throw new Rejected('scope_insufficient', `This key lacks the scope ${scope}.`);
  if (workload) requireWorkload(credential, workload);
}

/** @throws Rejected `ip_not_allowed` */
export function requireAddress({ ipAllow }: Pick<Rights, 'ipAllow'>, address: string): void {
  if (ipAllow !== null && !isWithin(ipAllow, address)) throw new Rejected('ip_not_allowed');
}

/** @throws Rejected `scope_insufficient`, `model_not_allowed` */
export function requireWorkload({ access, models }: Pick<Rights, 'access' | 'models'>, workload: Workload): void {
  if (!covers(access, workload))
    throw new Rejected('scope_insufficient', 'This key does not cover that workload.', { param: 'model' });
  if (models?.includes(workload.model) === false)
    throw new Rejected('model_not_allowed', undefined, { param: 'model' });
}

/** Does one of the access patterns `<project>/<workload>` or `<project>/*` cover the workload? */
export const covers = (access: readonly string[], { project, name }: Workload): boolean =>
  access.includes(`${project}/*`) || access.includes(`${project}/${name}`);

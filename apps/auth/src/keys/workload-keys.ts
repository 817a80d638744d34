import { Rejected } from '@sluice/contracts/errors';
import { MAX_ACCESS } from './key-requests.js';

/** The access of a key that may call this workload besides. @throws Rejected `conflict` when it has no room */
export function withAccess(access: readonly string[], workload: string): string[] {
  if (access.includes(workload)) return [...access];
  if (access.length >= MAX_ACCESS) {
    throw new Rejected('conflict', `A key has access to at most ${MAX_ACCESS} entries.`, { param: 'keyIds' });
  }
  return [...access, workload];
}

export const withoutAccess = (access: readonly string[], workload: string): string[] =>
  access.filter((entry) => entry !== workload);

/** The entry that lets a key call a workload: the workload's own before that of the whole project. */
export const accessVia = (access: readonly string[], workload: string): string =>
  access.includes(workload) ? workload : `${workload.split('/', 1)[0]!}/*`;

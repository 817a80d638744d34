import type { Credential, Workload } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { covers, requireWorkload } from '../keys/permits.js';

/** The workloads a key may call, in the order given. */
export const callable = (credential: Credential, workloads: readonly Workload[]): Workload[] =>
  workloads.filter(
    (workload) => covers(credential.access, workload) && (credential.models?.includes(workload.model) ?? true),
  );

/**
 * The workload that `model` means for this key: `<project>/<workload>` (percent-encoded or not), or a model id among
 * the workloads it may call.
 * @throws Rejected `model_not_found`, `ambiguous_model`, `model_not_allowed`, `scope_insufficient`
 */
export function resolveModel(model: string, credential: Credential, workloads: readonly Workload[]): Workload {
  const wanted = decode(model);
  const named = workloads.find(({ project, name }) => wanted === `${project}/${name}`);
  if (named) {
    requireWorkload(credential, named);
    return named;
  }
  const covered = workloads.filter((workload) => workload.model === wanted && covers(credential.access, workload));
  if (covered.length === 0) {
    throw new Rejected('model_not_found', `No workload that this key may call serves ${JSON.stringify(model)}.`, {
      param: 'model',
    });
  }
  if (credential.models?.includes(wanted) === false)
    throw new Rejected('model_not_allowed', undefined, { param: 'model' });
  if (covered.length > 1) {
    const names = covered.slice(0, 5).map(({ project, name }) => `${project}/${name}`);
    throw new Rejected('ambiguous_model', `Several workloads serve this model; say which: ${names.join(', ')}.`, {
      param: 'model',
    });
  }
  return covered[0]!;
}

function decode(model: string): string {
  if (!model.includes('%')) return model;
  try {
    return decodeURIComponent(model);
  } catch {
    return model;
  }
}

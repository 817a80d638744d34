import { readFileSync } from 'node:fs';
import type { Cluster } from '../revocation/cluster.ts';
import type { Run } from './book.ts';
import type { Call } from './caller.ts';
import type { Scope } from './plan.ts';

interface Line {
  readonly requestId: string;
  readonly startedAt: string;
  readonly time: string;
  readonly outcome: string;
}

/**
 * The workers' own account of what ran when, by the scope that limits it. Only what came to its end: of what was broken off
 * the place may be free a moment before the worker hears of it.
 */
export function runsOf(cluster: Cluster, calls: readonly Call[]): Map<Scope, Run[]> {
  const scopesOf = new Map(calls.map(({ headers, key }) => [headers['x-request-id'], key.scopes]));
  const runs = new Map<Scope, Run[]>();
  for (const { log } of cluster.stack.workers)
    for (const text of readFileSync(log, 'utf8').split('\n')) {
      if (text === '') continue;
      const { requestId, startedAt, time, outcome } = JSON.parse(text) as Line;
      // The router adds the number of the attempt.
      const scopes = scopesOf.get(requestId.slice(0, requestId.lastIndexOf('.')));
      if (scopes === undefined || outcome !== 'finished') continue;
      for (const scope of scopes) {
        const run = { from: Date.parse(startedAt), to: Date.parse(time) };
        const its = runs.get(scope);
        if (its) its.push(run);
        else runs.set(scope, [run]);
      }
    }
  return runs;
}

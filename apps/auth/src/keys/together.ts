import type { Reached } from '../gateways/in-force.service.js';

/** Several procedures as one: in force when all are, confirmed by as many as the least confirmed, as slow as the slowest. */
export function together(all: readonly Reached[]): Reached {
  const done = all.flatMap((one) => ('pending' in one ? [] : [one.inForce])).filter(({ of }) => of > 0);
  if (all.some((one) => 'pending' in one)) return { pending: true };
  return {
    inForce: {
      confirmed: done.length === 0 ? 0 : Math.min(...done.map(({ confirmed }) => confirmed)),
      of: Math.max(0, ...done.map(({ of }) => of)),
      ms: Math.max(0, ...done.map(({ ms }) => ms)),
    },
  };
}

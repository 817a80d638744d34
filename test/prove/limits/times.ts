import type { Patch } from '../revocation/build.ts';
import type { Times } from './book.ts';

/** The product's own. */
export const REAL: Times = { windowMs: 60_000, leaseMs: 15_000 };
const LIMITER = 'apps/gateway/dist/limits/redis-limiter.service.js';
const text = {
  windowMs: 'const WINDOW_MS = 60_000;',
  leaseMs: 'const LEASE_MS = 15_000;',
  timeoutMs: 'const TIMEOUT_MS = 100;',
};
/** Well above the time in which a place may still be given back, see the book. */
const SHORT_LEASE_MS = 7_000;
/** A machine that is busy elsewhere must not look like a Redis that is away. */
const PATIENT_MS = 10_000;

/** The same product with a shorter minute, and a shorter lease, in a copy of its build: for a test that cannot wait. */
export const timesOf = (windowSeconds: number): Times =>
  windowSeconds * 1_000 === REAL.windowMs ? REAL : { windowMs: windowSeconds * 1_000, leaseMs: SHORT_LEASE_MS };

export function patchesFor({ windowMs, leaseMs }: Times): Patch[] {
  if (windowMs === REAL.windowMs) return [];
  return [
    { file: LIMITER, from: text.windowMs, to: text.windowMs.replace('60_000', String(windowMs)) },
    { file: LIMITER, from: text.leaseMs, to: text.leaseMs.replace('15_000', String(leaseMs)) },
    { file: LIMITER, from: text.timeoutMs, to: text.timeoutMs.replace('100', String(PATIENT_MS)) },
  ];
}

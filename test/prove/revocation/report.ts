import type { Violation } from './checker.ts';
import type { Timed } from './revoker.ts';

export interface Latency {
  readonly n: number;
  /** Milliseconds; null of nothing. */
  readonly p50: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

/** @param times milliseconds */
export function latency(times: readonly number[]): Latency {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) =>
    sorted.length === 0 ? null : Math.round(sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]! * 10) / 10;
  return { n: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

export const latencyAtClient = (times: readonly Timed[]): Latency => latency(times.map(({ ms }) => ms));

/** Where the time goes: p50, p99 of each kind, and of what auth says it waited for gateways. */
export function timesByKind(times: readonly Timed[]): Record<string, readonly (number | null)[]> {
  const rows = Object.entries(Object.groupBy(times, ({ kind }) => kind)).map(([kind, its]) => [
    kind,
    latencyAtClient(its!),
  ]);
  const all = [...rows, ['reach', latency(times.map(({ reachMs }) => reachMs))]] as [string, Latency][];
  return Object.fromEntries(all.map(([name, { p50, p99 }]) => [name, [p50, p99]]));
}

/** What was seen, and what led to it: milliseconds are of this process's monotonic clock. */
export const violationText = ({ kind, where, victim, gateway, afterMs, trace }: Violation): string =>
  `✗ ${where}: ${victim} ${kind} by ${gateway}, ${afterMs} ms after its revoke had returned\n    ${trace.join('\n    ')}`;

import type { Sample } from './rounds.ts';
import { SYSTEMS, type SystemName } from './cases.ts';

/** All rounds of one system in one case. Microseconds of CPU per request; latencies are medians over the rounds. */
export interface SystemFigures {
  readonly system: SystemName;
  readonly requests: number;
  readonly errors: number;
  readonly rps: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  /** Of all its processes, until everything is booked. */
  readonly cpuUs: number;
  /** By process; of those that work behind (metering, billing, their servers) until everything is booked. */
  readonly byProcess: Readonly<Record<string, number>>;
  readonly upstreamUs: number;
  readonly loadUs: number;
  /** From the end of the load until metering and billing had everything; the longest of the rounds. */
  readonly settleSeconds: number;
  /** Cores at work for others meanwhile: in the worst round. Nothing of that is in the figures, but it slows. */
  readonly othersCores: number;
  /** Of the rounds, from the lowest to the highest: how far the noise goes. */
  readonly rpsOfRounds: readonly number[];
}

/** Only these answer a request while its client waits; the others work behind it, and may still do when it has its answer. */
const AT_ONCE = new Set(['gateway', 'router', 'redis']);

export function figuresOf(samples: readonly Sample[]): SystemFigures[] {
  return SYSTEMS.flatMap((system) => {
    const own = samples.filter((sample) => sample.system === system);
    if (own.length === 0) return [];
    const requests = sum(own.map((sample) => sample.requests));
    const perRequest = (milliseconds: readonly number[]) => round((sum(milliseconds) * 1000) / requests, 1);
    const names = Object.keys(own[0]!.cpu);
    const byProcess = Object.fromEntries(
      names.map((name) => [
        name,
        perRequest(own.map(({ cpu, settledCpu }) => (AT_ONCE.has(name) ? cpu : settledCpu)[name]!)),
      ]),
    );
    return [
      {
        system,
        requests,
        errors: sum(own.map(({ errors }) => errors)),
        rps: Math.round(requests / sum(own.map(({ seconds }) => seconds))),
        p50Ms: median(own.map(({ p50Ms }) => p50Ms)),
        p90Ms: median(own.map(({ p90Ms }) => p90Ms)),
        p99Ms: median(own.map(({ p99Ms }) => p99Ms)),
        cpuUs: round(sum(Object.values(byProcess)), 1),
        byProcess,
        upstreamUs: perRequest(own.map(({ upstreamCpuMs }) => upstreamCpuMs)),
        loadUs: perRequest(own.map(({ cpuMs }) => cpuMs)),
        settleSeconds: round(Math.max(...own.map(({ settleSeconds }) => settleSeconds)), 1),
        othersCores: round(Math.max(...own.map(({ othersCores = 0 }) => othersCores)), 2),
        rpsOfRounds: own.map(({ requests, seconds }) => Math.round(requests / seconds)).toSorted((a, b) => a - b),
      },
    ];
  });
}

/** For people. */
export function tableOf(title: string, figures: readonly SystemFigures[]): string {
  const rows = figures.map(
    ({ system, rps, p50Ms, p90Ms, p99Ms, cpuUs, byProcess, upstreamUs, loadUs, othersCores, errors }) => [
      system,
      String(rps),
      ...[p50Ms, p90Ms, p99Ms].map((milliseconds) => milliseconds.toFixed(2)),
      system === 'direct' ? '' : cpuUs.toFixed(1),
      upstreamUs.toFixed(1),
      loadUs.toFixed(1),
      othersCores.toFixed(2),
      [
        ...(Object.keys(byProcess).length > 1 ? Object.entries(byProcess).map(([name, us]) => `${name} ${us}`) : []),
        ...(errors > 0 ? [`${errors} ERRORS`] : []),
      ].join(', '),
    ],
  );
  const head = ['system', 'req/s', 'p50 ms', 'p90 ms', 'p99 ms', 'CPU µs', 'worker', 'load', 'others', 'µs by process'];
  const lines = [head, ...rows].map(([name, ...cells]) =>
    `  ${name!.padEnd(9)}${cells.map((cell, i) => (i < 8 ? cell.padStart(9) : `   ${cell}`)).join('')}`.trimEnd(),
  );
  return [title, ...lines].join('\n');
}

export const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return round(sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2, 3);
}

export const round = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;

import { round, sum } from './figures.ts';
import { Processes } from './processes.ts';

const EVERY_MS = 1_000;
/** Garbage that is not collected yet is no growth. */
const MAX_GROWTH_MB = 10;
const MAX_GROWTH_SHARE = 0.05;

/** Resident memory of one process over a load; MB are 10^6 bytes. */
export interface MemoryFigures {
  readonly startMB: number;
  readonly endMB: number;
  readonly maxMB: number;
  /** Least squares over all but the first quarter, in which caches fill and code is compiled. */
  readonly slopeMBPerMinute: number;
  /** Mean of the last quarter less that of the second. */
  readonly growthMB: number;
  readonly flat: boolean;
}

/** Looks at the memory of some processes every second until stopped. */
export class MemoryWatch {
  private readonly samples = new Map<string, number[]>();
  private readonly timer: NodeJS.Timeout;

  constructor(processes: () => Readonly<Record<string, number>>) {
    this.timer = setInterval(() => {
      const table = new Processes();
      for (const [name, pid] of Object.entries(processes())) {
        const own = this.samples.get(name) ?? [];
        own.push(table.usage(pid).rss / 1e6);
        this.samples.set(name, own);
      }
    }, EVERY_MS);
  }

  stop(): Record<string, MemoryFigures> {
    clearInterval(this.timer);
    return Object.fromEntries(Array.from(this.samples, ([name, samples]) => [name, memoryFigures(samples)]));
  }
}

/** @param samples MB, one per second */
export function memoryFigures(samples: readonly number[]): MemoryFigures {
  const quarter = (n: number) =>
    samples.slice(Math.floor((samples.length * n) / 4), Math.floor((samples.length * (n + 1)) / 4));
  const mean = (values: readonly number[]) => sum(values) / Math.max(1, values.length);
  const before = mean(quarter(1));
  const growth = mean(quarter(3)) - before;
  return {
    startMB: Math.round(samples[0] ?? 0),
    endMB: Math.round(samples.at(-1) ?? 0),
    maxMB: Math.round(Math.max(...samples)),
    slopeMBPerMinute: round(slope(samples.slice(Math.floor(samples.length / 4))) * (60_000 / EVERY_MS), 2),
    growthMB: round(growth, 1),
    flat: growth <= Math.max(MAX_GROWTH_MB, before * MAX_GROWTH_SHARE),
  };
}

/** Per sample. */
function slope(values: readonly number[]): number {
  const x = (values.length - 1) / 2;
  const y = sum(values) / values.length;
  const covariance = sum(values.map((value, i) => (i - x) * (value - y)));
  const variance = sum(values.map((_, i) => (i - x) ** 2));
  return variance === 0 ? 0 : covariance / variance;
}

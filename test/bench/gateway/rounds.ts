import { setTimeout as sleep } from 'node:timers/promises';
import { PATH, type Case, type SystemName } from './cases.ts';
import { readCounters, since, taken, type Counters } from './counters.ts';
import { Loader, type Load, type Order } from './load.ts';
import { Processes } from './processes.ts';
import type { Grounds, System } from './systems.ts';

/** Usage is gathered for 10 ms after its request; what a gateway still does for the last one is within this. */
const TAIL_MS = 250;
const SETTLE_EVERY_MS = 200;
const SETTLE_MS = 180_000;

/** One load on one system. CPU in milliseconds, by process. */
export interface Sample extends Load {
  readonly system: SystemName;
  readonly cpu: Readonly<Record<string, number>>;
  /** Until metering and billing had booked everything; the same as `cpu` where nothing is booked. */
  readonly settledCpu: Readonly<Record<string, number>>;
  /** From the end of the load until then. */
  readonly settleSeconds: number;
  readonly upstreamCpuMs: number;
  /** Cores that the machine gave to what is none of ours, on average over the load. */
  readonly othersCores: number | undefined;
}

/** Sums over every load that Sluice got: what all the books have to come to. */
export interface Ledger {
  answered: number;
  errors: number;
  /** Of the systems beside Sluice. */
  errorsOfOthers: number;
  inputTokens: number;
  outputTokens: number;
  /** While it had load, until it was booked. */
  readonly loaded: { seconds: number; counters: Counters[] };
}

export class Bench {
  readonly ledger: Ledger = {
    answered: 0,
    errors: 0,
    errorsOfOthers: 0,
    inputTokens: 0,
    outputTokens: 0,
    loaded: { seconds: 0, counters: [] },
  };
  private readonly grounds: Grounds;
  private readonly loader: Loader;
  private readonly stopping: AbortSignal;

  constructor(grounds: Grounds, stopping: AbortSignal) {
    this.grounds = grounds;
    this.stopping = stopping;
    this.loader = new Loader(grounds.tools.wrk, grounds.stack.dir, stopping);
  }

  /** Sends a case's load to one system, and reads what it cost. */
  async measure(system: System, what: Case, seconds: number, rate?: number): Promise<Sample> {
    const order: Order = {
      url: system.url,
      path: PATH,
      headers: { 'content-type': 'application/json', authorization: 'Bearer {key}', ...system.headers },
      body: what.body,
      keys: this.grounds.keys(what.keys),
      connections: what.connections,
      seconds,
      answerSeconds: what.answerSeconds,
      ...(rate === undefined ? {} : { rate }),
    };
    const sluice = system.name === 'sluice';
    const countersBefore = sluice ? await readCounters(this.grounds.stack) : undefined;
    const before = this.cpuOf(system);
    const from = performance.now();
    const load = await this.loader.run(order);
    await sleep(TAIL_MS);
    const after = this.cpuOf(system);
    const loadEnd = performance.now();
    const others = after.othersMs === undefined ? undefined : after.othersMs - before.othersMs!;
    if (sluice) await this.book(load, what);
    else this.ledger.errorsOfOthers += load.errors;
    const settled = sluice ? this.cpuOf(system) : after;
    const settleSeconds = sluice ? (performance.now() - loadEnd) / 1000 : 0;
    if (countersBefore) {
      this.ledger.loaded.seconds += (performance.now() - from) / 1000;
      this.ledger.loaded.counters.push(since(countersBefore, await readCounters(this.grounds.stack)));
    }
    return {
      ...load,
      system: system.name,
      cpu: differences(before.own, after.own),
      settledCpu: differences(before.own, settled.own),
      settleSeconds,
      upstreamCpuMs: after.upstream - before.upstream,
      othersCores: others === undefined ? undefined : Math.max(0, others / (loadEnd - from)),
    };
  }

  /** What it has cost so far counts for nothing; what was answered does. */
  forgetWarmUp(): void {
    this.ledger.loaded.seconds = 0;
    this.ledger.loaded.counters.length = 0;
  }

  /** All systems in turn, in another order every round: what else the machine does hits all of them alike. */
  async rounds(
    what: Case,
    plan: { readonly rounds: number; readonly seconds: number; readonly systems?: readonly SystemName[] },
    rateOf: (name: SystemName) => number | undefined = () => undefined,
  ): Promise<Sample[]> {
    const systems = this.grounds.systems.filter(({ name }) => plan.systems?.includes(name) ?? true);
    const samples: Sample[] = [];
    for (let round = 0; round < plan.rounds; round++) {
      for (let i = 0; i < systems.length && !this.stopping.aborted; i++) {
        const system = systems[(i + round) % systems.length]!;
        samples.push(await this.measure(system, what, plan.seconds, rateOf(system.name)));
      }
    }
    return samples;
  }

  private cpuOf(system: System) {
    const processes = new Processes();
    const own = Object.entries(system.processes()).map(([name, pid]) => [name, processes.usage(pid).cpuMs]);
    return {
      own: Object.fromEntries(own) as Record<string, number>,
      upstream: processes.usage(this.grounds.upstream()).cpuMs,
      othersMs: processes.othersMs,
    };
  }

  /** Counts what was answered, and waits until metering and billing have it: what they still do must not disturb others. */
  private async book({ requests, errors }: Load, { tokens }: Case): Promise<void> {
    this.ledger.answered += requests;
    this.ledger.errors += errors;
    this.ledger.inputTokens += requests * tokens.input;
    this.ledger.outputTokens += requests * tokens.output;
    for (const until = performance.now() + SETTLE_MS; performance.now() < until; await sleep(SETTLE_EVERY_MS)) {
      if (this.stopping.aborted || (await taken(this.grounds.stack)) >= this.ledger.answered) return;
    }
  }
}

const differences = (before: Record<string, number>, after: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]));

import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../runner/random.ts';
import type { Cluster, Gateway } from './cluster.ts';
import type { Lane } from './pipe.ts';
import type { Proxy } from './proxy.ts';

const MIN_MS = 200;
const MAX_MS = 6_000;
const AT_ONCE = 2;
/** After a kill a service is up again by itself; it is taken for hindered so long. */
const RESTART_MS = 3_000;

interface Interval {
  readonly target: string;
  readonly from: number;
  to: number;
}

/** What breaks, where, and how it is mended. */
interface Fault {
  readonly name: string;
  /** Which processes and links it hinders. */
  readonly targets: readonly string[];
  readonly begin: () => unknown;
  readonly end?: () => unknown;
  /** Milliseconds that it hinders beyond its own duration. */
  readonly after?: number;
}

/** Breaks things at random, by a seed, at most two at once, and mends them again. */
export class Faults {
  readonly counts: Record<string, number> = {};
  private readonly intervals: Interval[] = [];
  private readonly cluster: Cluster;
  private readonly random: Random;
  private readonly stopping = new AbortController();
  private readonly lanes: Promise<void>[] = [];

  constructor(cluster: Cluster, random: Random) {
    this.cluster = cluster;
    this.random = random;
  }

  start(): void {
    for (let lane = 0; lane < AT_ONCE; lane++) this.lanes.push(this.run());
  }

  /** Ends and mends everything. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await Promise.all(this.lanes);
    this.cluster.heal();
  }

  /** Was one of these stopped, dead or cut off at any time since then? @param since monotonic milliseconds */
  hindered(targets: readonly string[], since: number): boolean {
    return this.intervals.some(({ target, to }) => targets.includes(target) && to >= since);
  }

  /** Would nobody send a command to this gateway now? */
  avoids(gateway: Gateway): boolean {
    return this.hindered([gateway.name, gateway.links.auth.name], performance.now());
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const fault = this.choose();
      if (fault) {
        this.counts[fault.name] = (this.counts[fault.name] ?? 0) + 1;
        const duration = this.random.between(MIN_MS, this.random.pick([1_000, MAX_MS]));
        const intervals = fault.targets.map((target): Interval => ({ target, from: performance.now(), to: Infinity }));
        this.intervals.push(...intervals);
        await fault.begin();
        await sleep(duration, undefined, { signal }).catch(() => {});
        await fault.end?.();
        for (const interval of intervals) interval.to = performance.now() + (fault.after ?? 0);
      }
      await sleep(this.random.between(100, 1_200), undefined, { signal }).catch(() => {});
    }
  }

  /** One that meets nothing already broken; the last sound gateway stays. */
  private choose(): Fault | undefined {
    const now = performance.now();
    const busy = new Set(this.intervals.filter(({ to }) => to >= now).map(({ target }) => target));
    const { gateways } = this.cluster;
    const sound = gateways.filter(({ name, links }) => !busy.has(name) && !busy.has(links.auth.name));
    const gateway = this.random.pick(gateways);
    const fault = this.random.pick([
      () => this.stopped(gateway.name, gateway.process),
      () => this.stopped(gateway.name, gateway.process),
      () => this.killed(gateway.name, gateway.process),
      () => this.stopped('auth', this.cluster.stack.services.auth),
      () => this.killed('auth', this.cluster.stack.services.auth),
      () => this.natsKilled(),
      () => this.link(this.cluster.authNats),
      () => this.link(gateway.links.nats),
      () => this.link(gateway.links.nats),
      () => this.link(gateway.links.auth),
      () => this.link(gateway.links.push),
    ])();
    if (fault.targets.some((target) => busy.has(target))) return undefined;
    if (sound.length < 2 && fault.targets.some((target) => /gateway|^auth \d/.test(target))) return undefined;
    return fault;
  }

  private stopped(name: string, process: { kill(signal: NodeJS.Signals): void }): Fault {
    return {
      name: `SIGSTOP ${name.split(' ')[0]}`,
      targets: [name],
      begin: () => process.kill('SIGSTOP'),
      end: () => process.kill('SIGCONT'),
    };
  }

  private killed(name: string, process: { kill(signal: NodeJS.Signals): void }): Fault {
    const begin = () => process.kill('SIGKILL');
    return { name: `kill -9 ${name.split(' ')[0]}`, targets: [name], begin, after: RESTART_MS };
  }

  private natsKilled(): Fault {
    const { nats } = this.cluster.stack.backing;
    return { name: 'kill -9 nats', targets: ['nats'], begin: () => nats.kill(), end: () => nats.start() };
  }

  private link(proxy: Proxy): Fault {
    const what = proxy.name.split(' ')[0]!;
    const lanes: readonly Lane[] = this.random.pick([[proxy.up, proxy.down], [proxy.up], [proxy.down]]);
    const delayMs = this.random.between(30, 800);
    const [how, begin] = this.random.pick<readonly [string, () => void]>([
      ['black hole', () => lanes.forEach((lane) => lane.hold())],
      ['black hole', () => lanes.forEach((lane) => lane.hold())],
      ['delay', () => lanes.forEach((lane) => (lane.delayMs = delayMs))],
      [
        'cut',
        () => {
          proxy.refusing = true;
          proxy.cut();
        },
      ],
    ]);
    return { name: `${how} ${what}`, targets: [proxy.name], begin, end: () => proxy.heal() };
  }
}

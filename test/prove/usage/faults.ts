import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Supervised } from '../../../deploy/local/supervisor.ts';
import type { Cluster } from './cluster.ts';
import type { Planned, Victim } from './plan.ts';

/** On a machine that stands still now and then. */
const READY_MS = 180_000;
const POSTGRES_AWAY_MS = 1_500;
/** Until the router has published what it saw of a gateway that died, and a margin. */
const PUBLISHED_MS = 3_000;
/** Until everybody has noticed that a process died. */
const NOTICED_MS = 5_000;

/** Carries out a plan: each fault before its request, one process at a time, while NATS is away beside it. */
export class Faults {
  readonly counts: Record<string, number> = {};
  /** Brings streams through a gateway, or any, and waits until they are in the middle. */
  beforeKill: (gateway: number | undefined) => Promise<void> = async () => {};
  /** `unpublished`: of a router, what it had seen of gateways that died and was not in the stream. */
  private readonly kills: { readonly victim: Victim; readonly at: number; readonly unpublished: boolean }[] = [];
  private readonly outages: { readonly from: number; to: number }[] = [];
  private readonly left: Planned[];
  private turn: Promise<void> = Promise.resolve();
  private readonly beside: Promise<void>[] = [];
  private readonly cluster: Cluster;
  private readonly natsAwayMs: number;

  constructor(cluster: Cluster, plan: readonly Planned[], natsAwayMs: number) {
    this.cluster = cluster;
    this.left = [...plan];
    this.natsAwayMs = natsAwayMs;
  }

  /** Called before the request number `index`: resolves when every fault that is due has begun. */
  async due(index: number): Promise<void> {
    while (this.left[0] && this.left[0].at <= index) {
      const { victim } = this.left.shift()!;
      this.turn = this.turn.then(() => this.strike(victim));
    }
    await this.turn;
  }

  /** Everything runs again. */
  async over(): Promise<void> {
    await this.turn;
    await Promise.all(this.beside);
  }

  /**
   * Whether what was cut at this gateway at this time had lost both of its witnesses: the gateway, and the router before
   * what it saw of it was in the stream. Then the journal's last count is the best there is.
   * @param at monotonic milliseconds
   */
  lostBoth(gateway: number, at: number): boolean {
    return this.kills.some(
      (kill) =>
        kill.victim === `gateway ${gateway + 1}` &&
        Math.abs(at - kill.at) < NOTICED_MS &&
        this.kills.some(
          ({ victim, at: died, unpublished }) =>
            victim === 'router' &&
            died > kill.at - NOTICED_MS &&
            // However long it took the router to find NATS again.
            (died < this.publishedAt(kill.at) || (unpublished && this.publishedAt(kill.at) > kill.at + PUBLISHED_MS)),
        ),
    );
  }

  private publishedAt(at: number): number {
    const outage = this.outages.find(({ from, to }) => at >= from - PUBLISHED_MS && at <= to);
    return (outage?.to ?? at) + PUBLISHED_MS;
  }

  private async strike(victim: Victim): Promise<void> {
    this.counts[victim] = (this.counts[victim] ?? 0) + 1;
    const { stack, gateways } = this.cluster;
    if (victim === 'nats') {
      await Promise.all(this.beside);
      this.beside.push(this.natsAway());
    } else if (victim === 'postgres') {
      await stack.backing.postgres.kill();
      await sleep(POSTGRES_AWAY_MS);
      await stack.backing.postgres.start();
    } else {
      const target: Supervised =
        victim === 'gateway 1' || victim === 'gateway 2'
          ? gateways[victim === 'gateway 1' ? 0 : 1]!.process
          : stack.services[victim];
      // It may still be starting from the last time.
      await answering(target);
      // Two witnesses that die at once are what nobody promises anything of, but for the time in which NATS is away.
      const other = victim === 'router' ? /^gateway/ : victim.startsWith('gateway') ? /^router/ : undefined;
      const last = this.kills.findLast((kill) => other?.test(kill.victim));
      if (last) await sleep(Math.max(0, last.at + PUBLISHED_MS - performance.now()));
      const gateway = gateways.findIndex(({ process }) => process === target);
      if (gateway !== -1 || victim === 'router') await this.beforeKill(gateway === -1 ? undefined : gateway);
      const unpublished = victim === 'router' && (await witnessedWaiting(stack.urls.router)) > 0;
      this.kills.push({ victim, at: performance.now(), unpublished });
      target.kill('SIGKILL');
    }
  }

  private async natsAway(): Promise<void> {
    const { nats } = this.cluster.stack.backing;
    const outage = { from: performance.now(), to: Infinity };
    this.outages.push(outage);
    await nats.kill();
    await sleep(this.natsAwayMs);
    await nats.start();
    outage.to = performance.now();
  }
}

/** Records that a router holds and has not published. */
async function witnessedWaiting(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) })).text();
  return Number(/^sluice_router_witnessed_waiting(?:\{[^}]*\})? (\S+)$/m.exec(metrics)?.[1]);
}

/** However often it died before. @throws Error when it does not come back */
async function answering({ program: { name, readyUrl, log } }: Supervised): Promise<void> {
  for (const until = performance.now() + READY_MS; ; await sleep(50)) {
    const answer = await fetch(readyUrl, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
    const said = await answer?.text().catch(() => undefined);
    if (answer?.ok) return;
    if (performance.now() > until)
      throw new Error(
        `${name} did not come back: ${said}\n${readFileSync(log, 'utf8').split('\n').slice(-20).join('\n')}`,
      );
  }
}

import { KEYFEED, keyfeedBarrierSubject, keyfeedKeySubject } from '@sluice/contracts/subjects';
import { EVIDENCE_MARGIN_MS, EVIDENCE_MS, type Invalidation } from '@sluice/contracts/auth';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import type { Messaging } from '@sluice/messaging';
import type { Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { gauge, loggerFor } from '@sluice/service-kit';
import { GatewayRow, type Gateway } from './gateway.entity.js';

export interface ReaperTimes {
  readonly everyMs: number;
  /** Without barrier and look-up for this long, a gateway begins to retire. */
  readonly silentMs: number;
  /** From the retirement's being in the feed to its end: L + margin. */
  readonly evidenceMs: number;
}

/** Any silence beyond L is right; this one spares gateways that only hiccup. */
const TIMES: ReaperTimes = { everyMs: 1_000, silentMs: 10_000, evidenceMs: EVIDENCE_MS + EVIDENCE_MARGIN_MS };

/** What was seen of a gateway, by this process, and since when (monotonic) it has been that. */
interface Seen {
  readonly mark: string;
  readonly since: number;
  /** When the broker had stored that it retires. */
  announcedAt?: number;
}

/**
 * Retires gateways that died without saying so, in two phases; until the end of the second a revoke waits for their
 * evidence to run out, which is slower and just as right.
 *
 * 1. Silent (no new barrier in the feed, no new look-up) → `retiring_at` is committed, so its look-ups are refused, and
 *    then its own boot id is invalidated in the feed like a key: a gateway that reads that registers anew with nothing
 *    cached.
 * 2. L + margin after the broker has stored that, and still silent → `retired_at`: no revoke counts it any more.
 *
 * Why a retired one holds nothing. Its last look-up passed `requireRegistered` before phase 1 was committed, so it was
 * sent before, and its evidence is over. A barrier that was stored before the invalidation of the boot id makes a lease
 * that is over, too. A barrier that is stored behind it, also one that comes after we looked last, brings a lease only
 * through a consumer that read the invalidation first, or that did not exist yet: then the cache was emptied after
 * phase 1, and nothing has come into it since. A revoke between the phases still asks it, or waits.
 *
 * No clocks are compared: silence is what this process sees unchanged for long, by its own monotonic clock, while it
 * could read the feed. Nobody is silent while the feed can't be read, as nobody can be heard. Replicas do it side by side.
 */
@Injectable()
export class GatewayReaper implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('gateway-reaper');
  private readonly seen = new Map<string, Seen>();
  private lookedAt = -Infinity;
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;

  constructor(
    private readonly em: EntityManager,
    private readonly feed: Pick<Messaging, 'lastSequence' | 'publish'>,
    private readonly clock: Clock,
    private readonly times: ReaperTimes = TIMES,
  ) {
    gauge('auth_gateways_registered', 'Gateways that a revoke has to reach', () =>
      this.em
        .fork()
        .count(GatewayRow, { retiredAt: null })
        .catch(() => NaN),
    );
  }

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.running ??= this.reap()
        .catch((err: unknown) => this.log.debug({ err }, 'no reaping now'))
        .finally(() => (this.running = undefined));
    }, this.times.everyMs);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.running;
  }

  /** One look at every gateway. @throws when the feed or the database can't be read: then nothing was seen */
  async reap(): Promise<void> {
    // What was between two looks far apart is not known: the feed may have been away.
    if (this.clock.monotonic() - this.lookedAt > this.times.silentMs / 2) this.seen.clear();
    try {
      const gateways = await this.em.fork().find(GatewayRow, { retiredAt: null });
      const boots = new Set(gateways.map(({ boot }) => boot));
      for (const boot of this.seen.keys()) if (!boots.has(boot)) this.seen.delete(boot);
      await Promise.all(gateways.map((gateway) => this.look(gateway)));
      this.lookedAt = this.clock.monotonic();
    } catch (error) {
      this.seen.clear();
      throw error;
    }
  }

  private async look(gateway: Gateway): Promise<void> {
    const { boot } = gateway;
    const barrier = await this.feed.lastSequence(KEYFEED, keyfeedBarrierSubject(boot));
    const mark = `${barrier ?? 'none'} ${gateway.lastLookupAt.getTime()}`;
    const now = this.clock.monotonic();
    const seen = this.seen.get(boot);
    if (seen?.mark !== mark) {
      this.seen.set(boot, { mark, since: now });
    } else if (now - seen.since < this.times.silentMs) {
      // Not long enough yet.
    } else if (seen.announcedAt === undefined) {
      if (await this.beginToRetire(gateway)) seen.announcedAt = this.clock.monotonic();
    } else if (now - seen.announcedAt >= this.times.evidenceMs) {
      await this.retire(boot);
    }
  }

  /** False: a look-up came in between. */
  private async beginToRetire({ boot, lastLookupAt, retiringAt }: Gateway): Promise<boolean> {
    if (!retiringAt) {
      const stillSilent = { boot, retiredAt: null, retiringAt: null, lastLookupAt };
      const begun = await this.em
        .fork()
        .nativeUpdate(GatewayRow, stillSilent, { retiringAt: new Date(this.clock.now()) });
      if (begun === 0) return false;
      this.log.info({ boot }, 'a gateway is silent: its look-ups are refused from now on');
    }
    const end: Invalidation = { id: boot, version: 1, inflight: 'cut' };
    await this.feed.publish(keyfeedKeySubject(boot), end, { id: systemId() });
    return true;
  }

  private async retire(boot: string): Promise<void> {
    const retiring = { boot, retiredAt: null, retiringAt: { $ne: null } };
    await this.em.fork().nativeUpdate(GatewayRow, retiring, { retiredAt: new Date(this.clock.now()) });
    this.seen.delete(boot);
    this.log.info({ boot }, 'retired a silent gateway');
  }
}

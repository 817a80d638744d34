import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import type { OutboxRelay } from '@sluice/event-store';
import type { Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { DEFAULT_PREFIXES, formatSecret, shownPrefix, type SecretPrefixes } from '@sluice/primitives/secret';
import { loggerFor } from '@sluice/service-kit';
import { Counter, Gauge, Histogram } from 'prom-client';
import { GatewayRow, type Gateway } from '../gateways/gateway.entity.js';
import type { InForceService, Reached } from '../gateways/in-force.service.js';
import { CanaryKeyStore, NotLeading, type Toggled } from './canary-key.store.js';
import { ProbeClient } from './probe.client.js';

/** Between two probes of one gateway. */
const PAUSE_MS = 20;
export interface CanaryTimes {
  /** For a gateway to see that the key is on, and then that it is off. */
  readonly seenOnMs: number;
  readonly seenOffMs: number;
  /** For the answer to one probe. */
  readonly probeMs: number;
}
const TIMES: CanaryTimes = { seenOnMs: 2_000, seenOffMs: 5_000, probeMs: 1_000 };
/** After the return, each gateway is asked at once and then again. */
const AFTER_RETURN_MS = [0, 100];
/** Longer than a round: sooner, another replica would take over a leader that works. */
const LEASE_MS = 30_000;

/** How a round ended; `idle`: no gateway accepted the key when it was on. */
export type Round = { readonly how: 'confirmed' | 'waited' | 'pending' | 'idle'; readonly acceptedAfterReturn: number };

/**
 * Shows all the time that a revoke is in force when it says so. One key of nobody's is turned on; when a gateway accepts
 * it, it is turned off by the same procedure as any revoke, and every gateway is asked like a client would, until it
 * refuses. An accept of a request that was sent after the procedure said "in force" is what must never be.
 */
@Injectable()
export class Canary implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('canary');
  private readonly key: CanaryKeyStore;
  private readonly probes: ProbeClient;
  private readonly stop = new AbortController();
  /** Of this leader; the database has its digest only. */
  private secret: string | undefined;
  private loop: Promise<void> | undefined;
  private readonly timeToForce = new Histogram({
    name: 'auth_canary_time_to_force_seconds',
    help: 'Seconds from the commit of the canary being turned off to the first refusal, per gateway, by how that was reached',
    labelNames: ['how'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 3, 5],
  });
  private readonly accepted = new Counter({
    name: 'auth_canary_accepted_after_return_total',
    help: 'Requests with the revoked canary that a gateway accepted after it was said to be in force: must stay 0',
  });
  private readonly unseen = new Counter({
    name: 'auth_canary_unseen_total',
    help: 'Gateways that a round of the canary could not judge: they did not answer, or never saw the key on, or off',
  });
  private readonly lastSuccess = new Gauge({
    name: 'auth_canary_last_success_timestamp_seconds',
    help: 'When a round of the canary last ended in force and refused by every gateway that had accepted it; 0: not in this process',
  });

  constructor(
    private readonly em: EntityManager,
    private readonly relay: Pick<OutboxRelay, 'publish'>,
    private readonly inForce: Pick<InForceService, 'reach'>,
    private readonly clock: Clock,
    /** Seconds between two rounds; 0: no canary. */
    private readonly everySeconds: number,
    private readonly prefixes: SecretPrefixes = DEFAULT_PREFIXES,
    private readonly times: CanaryTimes = TIMES,
  ) {
    this.probes = new ProbeClient(times.probeMs);
    this.key = new CanaryKeyStore(em, systemId());
  }

  onModuleInit(): void {
    if (this.everySeconds > 0) this.loop = this.goRound();
  }

  async onApplicationShutdown(): Promise<void> {
    this.stop.abort();
    // First, while there is a database: another replica goes on at once. What is left turned on has a secret that dies here.
    await this.key.stopLeading().catch(() => {});
    await this.loop;
    await this.probes.close();
  }

  /** One round. @returns undefined when another replica leads @throws when the database can't be had */
  async round(): Promise<Round | undefined> {
    const lead = await this.key.lead(LEASE_MS);
    if (!lead) return undefined;
    if (lead.fresh || this.secret === undefined) await this.replaceSecret();
    const secret = this.secret!;
    await this.announce(await this.key.turn(true));
    const gateways = await this.em.fork().find(GatewayRow, { retiredAt: null });
    const on = await this.thoseThatAccept(gateways, secret);

    const turnedOff = await this.key.turn(false);
    const from = this.clock.monotonic();
    const published = this.announce(turnedOff);
    const refusals = on.map((gateway) => this.untilRefused(gateway, secret, from));
    const reached = await this.inForce.reach([turnedOff.invalidation], { outbox: turnedOff.outbox, published }, from);
    const how = howOf(reached);
    // Asked also when it had been silent before: whoever accepts now was promised to refuse.
    const acceptedAfterReturn = how === 'pending' ? 0 : await this.acceptedAfterReturn(gateways, secret);
    const took = (await Promise.all(refusals)).filter((milliseconds) => milliseconds !== undefined);
    for (const milliseconds of took) this.timeToForce.observe({ how }, milliseconds / 1000);
    this.unseen.inc(gateways.length - took.length);
    if (on.length === 0) return { how: 'idle', acceptedAfterReturn };
    if (how !== 'pending' && acceptedAfterReturn === 0 && took.length === on.length) {
      this.lastSuccess.set(this.clock.now() / 1000);
    }
    return { how, acceptedAfterReturn };
  }

  private async goRound(): Promise<void> {
    const { signal } = this.stop;
    while (!signal.aborted) {
      const next = this.clock.monotonic() + this.everySeconds * 1000;
      try {
        await this.round();
      } catch (err) {
        if (!(err instanceof NotLeading) && !signal.aborted) this.log.debug({ err }, 'no round of the canary');
      }
      await sleep(Math.max(0, next - this.clock.monotonic()), undefined, { signal }).catch(() => {});
    }
  }

  private async replaceSecret(): Promise<void> {
    const secret = formatSecret(this.prefixes.credit, randomBytes(32));
    const digest = createHash('sha256').update(secret).digest('base64url');
    await this.announce(await this.key.replaceSecret(digest, shownPrefix(secret, this.prefixes.credit)));
    this.secret = secret;
  }

  private announce({ outbox }: Toggled): Promise<boolean> {
    return this.relay.publish(outbox);
  }

  /** One that says nothing keeps nobody waiting longer than `seenOnMs`. */
  private async thoseThatAccept(gateways: readonly Gateway[], secret: string): Promise<Gateway[]> {
    const accept = await Promise.all(
      gateways.map((gateway) => this.untilItSays('accepted', gateway, secret, this.times.seenOnMs)),
    );
    return gateways.filter((_, index) => accept[index]);
  }

  /** Milliseconds until this gateway refused; undefined when it did not, in time. */
  private async untilRefused(gateway: Gateway, secret: string, from: number): Promise<number | undefined> {
    const refused = await this.untilItSays('refused', gateway, secret, this.times.seenOffMs);
    return refused ? this.clock.monotonic() - from : undefined;
  }

  private async untilItSays(
    wanted: 'accepted' | 'refused',
    { url }: Gateway,
    secret: string,
    milliseconds: number,
  ): Promise<boolean> {
    const signal = AbortSignal.any([this.stop.signal, AbortSignal.timeout(milliseconds)]);
    while (!signal.aborted) {
      if ((await this.probes.ask(url, secret, signal)) === wanted) return true;
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
    return false;
  }

  private async acceptedAfterReturn(gateways: readonly Gateway[], secret: string): Promise<number> {
    let accepted = 0;
    const ask = async ({ boot, url }: Gateway, after: number) => {
      await sleep(after, undefined, { signal: this.stop.signal }).catch(() => {});
      if ((await this.probes.ask(url, secret, this.stop.signal)) !== 'accepted') return;
      accepted += 1;
      this.accepted.inc();
      this.log.error({ boot }, 'a gateway accepted the canary after its end was said to be in force');
    };
    await Promise.all(gateways.flatMap((gateway) => AFTER_RETURN_MS.map((after) => ask(gateway, after))));
    return accepted;
  }
}

function howOf(reached: Reached): 'confirmed' | 'waited' | 'pending' {
  if ('pending' in reached) return 'pending';
  return reached.inForce.confirmed < reached.inForce.of ? 'waited' : 'confirmed';
}

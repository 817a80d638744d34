import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import type { OnModuleInit } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { systemId } from '@sluice/primitives/id';
import { HealthRegistry, loggerFor, type ServiceClient } from '@sluice/service-kit';

const RETRY_MS = 500;

/**
 * This process's place among the gateways that a revoke has to reach. Registered at auth before the first look-up,
 * under an id that was never used before; taken off only by itself, after it stopped admitting.
 */
@Injectable()
export class Membership implements OnModuleInit {
  private readonly log = loggerFor('membership');
  private registered: string | undefined;
  private registering: Promise<string> | undefined;
  private stopped = false;
  private onRenewed: () => void = () => {};

  constructor(
    private readonly auth: ServiceClient,
    private readonly url: string,
    health: HealthRegistry,
  ) {
    health.ready('membership', () => {
      if (this.registered === undefined) throw new Error('not registered at auth');
    });
  }

  onModuleInit(): void {
    void this.registerForEver();
  }

  /** For the end, when nothing is admitted any more, and before the client of auth is closed. */
  async leave(): Promise<void> {
    this.stopped = true;
    if (this.registered === undefined) return;
    const path = `/internal/gateways/${this.registered}`;
    // If that fails, auth's reaper retires the id after its evidence has run out.
    await this.auth.tell({ method: 'DELETE', path }).catch(() => {});
  }

  whenRenewed(listener: () => void): void {
    this.onRenewed = listener;
  }

  /** The registered id; undefined before the first registration. */
  get current(): string | undefined {
    return this.registered;
  }

  /** The registered id, registering first if need be. @throws Rejected `unavailable` */
  async boot(): Promise<string> {
    if (this.registered !== undefined) return this.registered;
    if (this.stopped) throw new Rejected('unavailable', 'This gateway is stopping.');
    this.registering ??= this.register().finally(() => (this.registering = undefined));
    return this.registering;
  }

  /** Auth gave `boot` up, or is about to: it is done with, another takes its place. Nothing for any other id. */
  renew(boot: string): void {
    if (this.registered !== boot) return;
    this.log.warn({ boot }, 'auth retired this gateway; registering anew with nothing cached');
    this.registered = undefined;
    this.onRenewed();
    // Not only with the next look-up: who is not registered is not ready, and gets no requests.
    void this.registerForEver();
  }

  private async registerForEver(): Promise<void> {
    while (!this.stopped && this.registered === undefined) {
      await this.boot().catch((err: unknown) => this.log.debug({ err }, 'auth does not take the registration yet'));
      if (this.registered === undefined) await sleep(RETRY_MS, undefined, { ref: false });
    }
  }

  private async register(): Promise<string> {
    const boot = systemId();
    await this.auth.tell({ method: 'PUT', path: `/internal/gateways/${boot}`, body: { url: this.url } });
    this.registered = boot;
    return boot;
  }
}

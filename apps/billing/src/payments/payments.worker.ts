import { setTimeout as sleep } from 'node:timers/promises';
import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import type { Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { CLOCK } from '../clock.js';
import { PaymentsService } from './payments.service.js';
import { readPayment } from './payments.store.js';
import { PAYMENTS, type PaymentProvider } from './provider.js';
import { beginRecharge, dueRecharges } from './recharges.store.js';

const EVERY_MS = 2_000;
const AFTER_FAILURE_MS = 10_000;
const RECHARGES = 50;

/** Begins automatic recharges, and asks the provider about what it may have told in vain; in every process. */
@Injectable()
export class PaymentsWorker {
  private readonly log = loggerFor('payments');
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(
    private readonly em: EntityManager,
    private readonly payments: PaymentsService,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(PAYMENTS) private readonly provider: PaymentProvider | null,
  ) {}

  start(): void {
    if (this.provider) this.#loop ??= this.#run(this.provider);
  }

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** @returns how many recharges it began */
  async recharge(provider: PaymentProvider): Promise<number> {
    const now = this.clock.now();
    let begun = 0;
    for (const organizationId of await dueRecharges(this.em.fork(), provider.name, now, RECHARGES)) {
      const id = await this.em.fork().transactional((em) => beginRecharge(em, provider.name, organizationId, now));
      if (id === undefined) continue;
      begun++;
      const payment = await readPayment(this.em.fork(), id);
      await this.payments
        .look(provider, payment!)
        .catch((err: unknown) => this.log.warn({ err, id }, 'a recharge waits'));
    }
    return begun;
  }

  async #run(provider: PaymentProvider): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let pauseMs = EVERY_MS;
      try {
        await this.recharge(provider);
        await this.payments.sweep();
      } catch (err) {
        pauseMs = AFTER_FAILURE_MS;
        if (!signal.aborted) this.log.warn({ err }, 'payments wait to be looked at');
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
  }
}

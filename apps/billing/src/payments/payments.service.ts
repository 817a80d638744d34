import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { enqueue, OutboxRelay, type OutboxMessage } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { formatUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';
import { CLOCK } from '../clock.js';
import { paymentAccounts, returnEntries, topUpEntries, type LedgerTransaction } from '../ledger/ledger.js';
import { append, lockAccounts } from '../ledger/ledger.store.js';
import { requireOrganizationKnown } from '../organizations/known.store.js';
import { tablesOf } from '../tables.js';
import { answered } from './answered.js';
import { paymentMessage } from './payment.publisher.js';
import { nextLook, stepOf, type Payment, type PaymentStep, type TopUp } from './payment.js';
import { methodOf, paymentAt, paymentOf, readPayment, saveMethod, writePayment } from './payments.store.js';
import { PAYMENTS, requireProvider, type PaymentProvider, type ProviderPayment, type Reference } from './provider.js';
import { settleRecharge, stopRecharges } from './recharges.store.js';

const DAY_MS = 24 * 3_600_000;
/** Stripe forgets idempotency keys after a day: until then the same charge may be sent again. */
const REPEATABLE_MS = 20 * 3_600_000;
/** Payments that are looked at in one round. */
const ROUND = 50;
/** A look that failed, or whose process died, comes again after this. */
const AGAIN_MS = 60_000;

/** A top-up as its organization sees it. */
export const shownTopUp = ({ id, amount, kind, status, url, credited, returned, dispute, createdAt }: Payment) => ({
  id,
  kind,
  status,
  amount: formatUsd(amount),
  credited: formatUsd(credited),
  returned: formatUsd(returned),
  currency: 'USD',
  ...(dispute === 'none' ? {} : { dispute }),
  ...(status === 'open' && url !== null ? { url } : {}),
  createdAt: rfc3339(createdAt),
});

@Injectable()
export class PaymentsService {
  constructor(
    private readonly em: EntityManager,
    private readonly relay: OutboxRelay,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(PAYMENTS) private readonly provider: PaymentProvider | null,
  ) {}

  /**
   * A page to pay on, once per Idempotency-Key: the payment is written down before the provider hears of it, by an id that
   * makes the provider's page one, too.
   * @throws Rejected `not_found`, `conflict` for a key used for another top-up, `unavailable`
   */
  async topUp(organizationId: string, { amount, savePaymentMethod }: TopUp, idempotencyKey: string): Promise<Payment> {
    const provider = requireProvider(this.provider);
    const em = this.em.fork();
    await requireOrganizationKnown(em, organizationId);
    const now = this.clock.now();
    await tablesOf(em)
      .insertInto('payments')
      .values({
        id: systemId(),
        organization_id: organizationId,
        provider: provider.name,
        kind: 'checkout',
        amount_pico: String(amount),
        saves_method: savePaymentMethod,
        idempotency_key: idempotencyKey,
        created_at: rfc3339(now),
        look_at: rfc3339(now + DAY_MS),
      })
      .onConflict((conflict) => conflict.columns(['organization_id', 'idempotency_key']).doNothing())
      .execute();
    const row = await tablesOf(em)
      .selectFrom('payments')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('idempotency_key', '=', idempotencyKey)
      .executeTakeFirstOrThrow();
    const payment = paymentOf(row);
    if (payment.amount !== amount || payment.savesMethod !== savePaymentMethod) {
      throw new Rejected('conflict', 'This Idempotency-Key was used for another top-up.', { param: 'Idempotency-Key' });
    }
    if (payment.url !== null || payment.status !== 'open') return payment;
    const page = await answered(
      provider.open({ paymentId: payment.id, organizationId, amount, savesMethod: savePaymentMethod }),
    );
    const lookAt = nextLook(payment, this.clock.now());
    await tablesOf(em)
      .updateTable('payments')
      .set({ ...page, look_at: lookAt === null ? null : rfc3339(lookAt) })
      .where('id', '=', payment.id)
      .where('url', 'is', null)
      .execute();
    return { ...payment, ...page };
  }

  /** Newest first. */
  async page(organizationId: string, limit: number, before: string | undefined) {
    const rows = await tablesOf(this.em.fork())
      .selectFrom('payments')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .$if(before !== undefined, (query) => query.where('id', '<', before!))
      .orderBy('id', 'desc')
      .limit(limit + 1)
      .execute();
    const page = rows.slice(0, limit).map(paymentOf);
    return { page, nextCursor: rows.length > limit ? page.at(-1)!.id : null };
  }

  /**
   * Something became of a payment. What it was is not believed: the provider is asked how the payment stands now, so a
   * notification may come late, twice, or after the next one.
   * @throws Rejected `invalid_request` for what is not the provider's, `unavailable`: it is to be sent again
   */
  async notified(raw: Uint8Array, signature: string): Promise<void> {
    if (!this.provider) throw new Rejected('not_found');
    const reference = this.provider.notified(raw, signature);
    if (reference) await answered(this.follow(this.provider, reference));
  }

  private async follow(provider: PaymentProvider, reference: Reference): Promise<void> {
    const known = await paymentAt(this.em.fork(), provider.name, reference);
    if (known) return this.look(provider, known, reference);
    // It may be known by our own name only, which is at the provider.
    const said = await provider.find(reference);
    if (said.paymentId === null) return;
    const named = await paymentAt(this.em.fork(), provider.name, { paymentId: said.paymentId });
    if (named) await this.apply(named.id, said);
  }

  /** Looks at what the provider may have told in vain. @returns how many payments it looked at */
  async sweep(): Promise<number> {
    if (!this.provider) return 0;
    const now = this.clock.now();
    // Whoever takes a payment moves its time first, so that it comes again should the process die over it.
    const { rows } = await sql<{ id: string }>`
      update payments set look_at = ${rfc3339(now + AGAIN_MS)}::timestamptz where id in (
        select id from payments where look_at <= ${rfc3339(now)}::timestamptz and provider = ${this.provider.name}
        order by look_at limit ${ROUND} for update skip locked
      ) returning id
    `.execute(tablesOf(this.em.fork()));
    let failed: unknown;
    for (const { id } of rows) {
      const payment = await readPayment(this.em.fork(), id);
      // Each by itself: one that the provider refuses must not hold up the others.
      await this.look(this.provider, payment!).catch((error: unknown) => (failed ??= error));
    }
    if (failed) throw failed;
    return rows.length;
  }

  /** @param hint what the provider called it, where that is not known here yet */
  async look(provider: PaymentProvider, payment: Payment, hint: Reference = {}): Promise<void> {
    await this.apply(payment.id, await this.askAbout(provider, payment, hint));
  }

  private async askAbout(provider: PaymentProvider, payment: Payment, hint: Reference): Promise<ProviderPayment> {
    const { id: paymentId, organizationId, amount } = payment;
    const intent = payment.intent ?? hint.intent;
    const begun = payment.kind === 'recharge' && payment.status === 'open' && intent === undefined;
    if (begun && this.clock.now() - payment.createdAt < REPEATABLE_MS) {
      const method = await methodOf(this.em.fork(), organizationId, provider.name);
      if (method) return provider.charge({ paymentId, organizationId, amount }, method);
    }
    return provider.find({ paymentId, intent, checkout: payment.checkout ?? hint.checkout });
  }

  /** Books what is new in an answer of the provider: credit, what went back, events, the next look; all or nothing. */
  private async apply(paymentId: string, said: ProviderPayment): Promise<void> {
    const now = this.clock.now();
    const { organizationId } = (await readPayment(this.em.fork(), paymentId))!;
    const messages = await this.em.fork().transactional(async (em) => {
      const accounts = await lockAccounts(em, [organizationId], now, paymentAccounts(this.provider!.name));
      const known = (await readPayment(em, paymentId))!;
      const step = stepOf(known, said);
      const available = (accounts.available.get(organizationId) ?? 0n) + step.credit;
      await append(em, accounts, transactionsOf(step, available, now));
      await writePayment(em, step.payment, nextLook(step.payment, now));
      // When it is paid, and not at each later look: what was saved since is what the customer wants now.
      if (step.credit > 0n && step.payment.savesMethod && said.method) await saveMethod(em, step.payment, said.method);
      // Nobody pays again, by himself, what just went back or is disputed: its owner has to say so.
      if (step.giveBack > 0n || step.disputed) await stopRecharges(em, organizationId, step.disputed);
      return this.tell(em, step, now);
    });
    void this.relay.publish(messages);
  }

  private async tell(em: EntityManager, step: PaymentStep, at: number): Promise<readonly OutboxMessage[]> {
    const { payment } = step;
    const told = [];
    if (step.credit > 0n) told.push(paymentMessage('sluice.billing.payment.paid.v1', payment, { id: systemId(), at }));
    if (step.disputed) told.push(paymentMessage('sluice.billing.payment.disputed.v1', payment, { id: systemId(), at }));
    if (payment.kind === 'recharge' && (step.credit > 0n || step.failed)) {
      const failed = await settleRecharge(em, payment.organizationId, step.failed, at);
      if (failed)
        told.push(paymentMessage('sluice.billing.recharge.failed.v1', payment, { id: systemId(), at, ...failed }));
    }
    return enqueue(em, told);
  }
}

function transactionsOf({ payment, credit, giveBack }: PaymentStep, available: bigint, createdAt: number) {
  const { id, organizationId, provider } = payment;
  const intent = `${provider}:${payment.intent}`;
  const base = { payloadHash: id, organizationId, requestId: null, description: `payment ${id}`, createdAt };
  const transactions: LedgerTransaction[] = [];
  if (credit > 0n)
    transactions.push({
      ...base,
      id: systemId(),
      idempotencyKey: `topup:${intent}`,
      kind: 'topup',
      entries: topUpEntries(provider, credit),
    });
  if (giveBack > 0n)
    transactions.push({
      ...base,
      id: systemId(),
      idempotencyKey: `returned:${intent}:${payment.returned}`,
      kind: 'payment_returned',
      entries: returnEntries(giveBack, available),
    });
  return transactions;
}

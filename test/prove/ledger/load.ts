// Money on the move in a whole Sluice: by operators, by requests, by time, while billing is killed.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseUsd } from '@sluice/primitives/money';
import { call, eventually, type TestStack } from '../../stack.ts';
import type { Random } from '../runner/random.ts';

const ORGANIZATIONS = 3;
const CALLERS = 6;
/** Far enough apart that billing works in between; closer kills are answered with longer pauses. */
const BETWEEN_KILLS_MS = 4_000;
const ANSWERED_MS = 60_000;

interface Organization {
  readonly id: string;
  readonly apiKey: string;
  /** Transactions that brought credit. */
  readonly credits: string[];
  /** What was answered with 200, in pico-USD by account. */
  readonly answered: Record<'granted:operator' | 'refunded' | 'adjusted', bigint>;
}

export interface Moved {
  readonly organizations: readonly Pick<Organization, 'id' | 'answered'>[];
  /** Requests that were answered with 200. */
  readonly requests: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
  /** Repetitions of a command whose answer was another one. */
  readonly differing: readonly string[];
  readonly kills: number;
}

export class Load {
  private readonly organizations: Organization[] = [];
  private readonly requests: string[] = [];
  private readonly counts: Record<string, number> = {};
  private readonly differing: string[] = [];
  private commands = 0;
  private readonly stack: TestStack;
  private readonly random: Random;

  constructor(stack: TestStack, random: Random) {
    this.stack = stack;
    this.random = random;
  }

  /** @param over no more is begun once it says so */
  async run(seconds: number, over: () => boolean): Promise<Moved> {
    for (let i = 0; i < ORGANIZATIONS; i++) this.organizations.push(await this.organization(`ledger ${i}`));
    const until = performance.now() + seconds * 1_000;
    const going = () => performance.now() < until && !over();
    const [kills] = await Promise.all([
      this.killBilling(going),
      ...Array.from({ length: CALLERS }, async (_, i) => {
        const random = this.random.fork(`caller ${i}`);
        while (going()) await this.move(random);
      }),
    ]);
    const { organizations, requests, counts, differing } = this;
    return { organizations, requests, counts, differing, kills };
  }

  private async killBilling(going: () => boolean): Promise<number> {
    for (let kills = 0; ; kills++) {
      for (const until = performance.now() + BETWEEN_KILLS_MS; performance.now() < until; await sleep(50))
        if (!going()) return kills;
      this.stack.services.billing.kill();
    }
  }

  private async move(random: Random): Promise<void> {
    const one = random.pick(this.organizations);
    const kind = random.pick(['credit', 'refund', 'adjustment', 'request', 'request', 'request'] as const);
    if (kind === 'request') return this.request(one, random);
    const amount = random.between(0.001, kind === 'credit' ? 0.01 : 0.004).toFixed(Math.floor(random.between(3, 12)));
    const body = { organizationId: one.id, amount, reason: 'prove' };
    if (kind === 'credit') return this.grant(one, body, random);
    if (kind === 'refund') {
      const named = random.next() < 0.5 && one.credits.length > 0;
      const more = named ? { transactionId: random.pick(one.credits) } : {};
      if (await this.command('refunds', { ...body, ...more }, random)) one.answered.refunded += parseUsd(amount);
      return undefined;
    }
    const sign = random.next() < 0.5 ? '-' : '';
    if (await this.command('adjustments', { ...body, amount: `${sign}${amount}` }, random))
      one.answered.adjusted -= sign === '-' ? -parseUsd(amount) : parseUsd(amount);
  }

  private async grant(one: Organization, body: { amount: string }, random: Random): Promise<void> {
    const expiresAt = new Date(Date.now() + random.between(500, 5_000)).toISOString();
    const transactionId = await this.command('credits', random.next() < 0.6 ? { ...body, expiresAt } : body, random);
    if (transactionId === undefined) return;
    one.credits.push(transactionId);
    one.answered['granted:operator'] -= parseUsd(body.amount);
  }

  /** Until it is answered for good, with the same key: a killed billing may have booked it or not. */
  private async command(path: string, body: unknown, random: Random): Promise<string | undefined> {
    const headers = { 'idempotency-key': `prove-${this.random.seed}-${this.commands++}` };
    const send = () => this.answered('POST', `/api/operator/${path}`, this.stack.operatorKey, body, headers);
    const first = await send();
    this.count(`${path} ${first.status}`);
    if (first.status !== 200) return undefined;
    if (random.next() < 0.2) {
      const again = await send();
      const [a, b] = [first, again].map((answer) => JSON.stringify([answer.status, answer.body]));
      if (a !== b) this.differing.push(`${path}: ${a}, then ${b}`);
    }
    return first.body.data.transactionId;
  }

  private async request(one: Organization, random: Random): Promise<void> {
    const content = 'word '.repeat(Math.floor(random.between(1, 60)));
    const body = {
      model: this.stack.models[0],
      messages: [{ role: 'user', content }],
      max_tokens: Math.floor(random.between(1, 200)),
    };
    const answer = await call(this.stack.baseUrl, one.apiKey, 'POST', '/v1/chat/completions', body);
    this.count(`requests ${answer.status}`);
    if (answer.status === 200) this.requests.push(answer.headers.get('x-request-id')!);
  }

  private async organization(name: string): Promise<Organization> {
    const { operatorKey, models } = this.stack;
    const made = await this.must<{ id: string; managementKey: { apiKey: string } }>(
      operatorKey,
      'POST',
      '/api/operator/organizations',
      { name },
    );
    const body = { organizationId: made.id, amount: '0.01', reason: 'prove' };
    const headers = { 'idempotency-key': made.id };
    // Billing hears of it by an event.
    const first = await eventually(async () => {
      const answer = await this.answered('POST', '/api/operator/credits', operatorKey, body, headers);
      return answer.status === 200 && answer.body.data.transactionId;
    });
    const manager = made.managementKey.apiKey;
    await this.must(manager, 'PUT', '/api/projects/default/workloads/large', { model: models[0] });
    const key = { name: 'prove', rpm: 1_000_000 };
    const { apiKey } = await this.must<{ apiKey: string }>(manager, 'POST', '/api/keys/credit', key);
    const answered = { 'granted:operator': -parseUsd(body.amount), refunded: 0n, adjusted: 0n };
    return { id: made.id, apiKey, credits: [first], answered };
  }

  private async must<T>(secret: string, method: string, path: string, body: unknown): Promise<T> {
    const answer = await this.answered(method, path, secret, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body.data as T;
  }

  private async answered(method: string, path: string, secret: string, body: unknown, headers = {}) {
    type Data = { data: { transactionId: string } };
    for (const until = performance.now() + ANSWERED_MS; ; await sleep(100)) {
      const answer = await call<Data>(this.stack.baseUrl, secret, method, path, body, headers).catch(() => undefined);
      if (answer !== undefined && answer.status < 500) return answer;
      if (performance.now() > until) throw new Error(`${method} ${path}: no answer in ${ANSWERED_MS} ms`);
    }
  }

  private count(name: string): void {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }
}

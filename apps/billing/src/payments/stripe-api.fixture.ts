import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

type Thing = Record<string, unknown> & { id: string };

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly form: URLSearchParams;
  readonly idempotencyKey: string | undefined;
}

/** What Stripe's API says to the questions that are asked here, in the shapes of its version 2026-10-28. */
export class StripeApi {
  readonly asked: Asked[] = [];
  readonly sessions = new Map<string, Thing>();
  readonly intents = new Map<string, Thing>();
  readonly disputes: Thing[] = [];
  /** Answers instead of what would be answered; null = none at all. */
  next: { status: number; body: unknown } | null | undefined;
  private readonly answers = new Map<string, Thing>();
  private server: Server | undefined;

  async start(): Promise<string> {
    this.server = createServer((request, response) => {
      void this.answer(request).then((answer) => {
        if (answer === null) return request.socket.destroy();
        response.writeHead(answer.status, { 'content-type': 'application/json', 'request-id': 'req_1' });
        return response.end(JSON.stringify(answer.body));
      });
    });
    await new Promise<void>((listening) => this.server!.listen(0, '127.0.0.1', listening));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((closed) => this.server?.close(closed));
  }

  private async answer(request: IncomingMessage): Promise<{ status: number; body: unknown } | null> {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const { pathname, searchParams } = new URL(request.url!, 'http://stripe');
    const key = request.headers['idempotency-key'] as string | undefined;
    const form = new URLSearchParams(text);
    const asked = { method: request.method!, path: pathname, query: searchParams, form, idempotencyKey: key };
    this.asked.push(asked);
    if (request.headers.authorization !== 'Bearer sk_test_1')
      return refusal(401, 'invalid_request_error', 'api_key_invalid');
    if (this.next !== undefined) {
      const { next } = this;
      this.next = undefined;
      return next;
    }
    if (request.method === 'POST' && key && this.answers.has(key)) return { status: 200, body: this.answers.get(key) };
    const body = request.method === 'POST' ? this.create(asked) : this.read(asked);
    if (body === undefined) return refusal(404, 'invalid_request_error', 'resource_missing');
    if (key) this.answers.set(key, body as Thing);
    return { status: 200, body };
  }

  private create({ path, form }: Asked): Thing | undefined {
    const metadata = {
      sluice_payment: form.get('metadata[sluice_payment]'),
      sluice_kind: form.get('metadata[sluice_kind]'),
    };
    if (path === '/v1/checkout/sessions') {
      const id = `cs_test_${this.sessions.size + 1}`;
      const url = `https://checkout.stripe.com/c/pay/${id}`;
      const session = { id, object: 'checkout.session', url, status: 'open', payment_intent: null, metadata };
      this.sessions.set(id, session);
      return session;
    }
    if (path !== '/v1/payment_intents') return undefined;
    const id = `pi_${this.intents.size + 1}`;
    const amount = Number(form.get('amount'));
    const intent = {
      ...anIntent(id, amount),
      metadata,
      customer: form.get('customer'),
      payment_method: form.get('payment_method'),
    };
    this.intents.set(id, intent);
    return intent;
  }

  private read({ path, query }: Asked): unknown {
    const [, , what, id, more] = path.split('/');
    const list = (data: Thing[]) => ({ object: 'list', url: path, has_more: false, data });
    if (what === 'checkout') return this.sessions.get(more!);
    if (what === 'disputes')
      return list(this.disputes.filter((one) => one['payment_intent'] === query.get('payment_intent')));
    if (id === 'search') {
      const named = /'([^']*)'$/.exec(query.get('query')!)![1];
      const has = ({ metadata }: Thing) => (metadata as Record<string, string>)['sluice_payment'] === named;
      return { ...list([...this.intents.values()].filter(has)), object: 'search_result' };
    }
    return id === undefined ? list([...this.intents.values()]) : this.intents.get(id);
  }
}

/** A payment of so many cents that went well. */
export const anIntent = (id: string, amount: number): Thing => ({
  id,
  object: 'payment_intent',
  amount,
  amount_received: amount,
  currency: 'usd',
  status: 'succeeded',
  customer: null,
  payment_method: 'pm_1',
  setup_future_usage: null,
  metadata: {},
  latest_charge: { id: `ch_${id}`, object: 'charge', amount, amount_refunded: 0, disputed: false, payment_intent: id },
});

export const refusal = (status: number, type: string, code: string, more: object = {}) => ({
  status,
  body: { error: { type, code, message: 'Refused: sk_test_1', ...more } },
});

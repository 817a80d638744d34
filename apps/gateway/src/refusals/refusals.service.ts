import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import { MAX_REFUSAL_MESSAGE, MAX_REFUSAL_MODEL, type Refusal } from '@sluice/contracts/refusals';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { loggerFor, type ServiceClient } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import type { KnownKey } from '../keys/known-key.js';
import type { Headers } from '../keys/presented-secret.js';
import { RefusalBuffer } from './refusal-buffer.js';
import type { RefusalCountsTeller } from './refusal-counts.service.js';

const FLUSH_MS = 1_000;
const TIMEOUT_MS = 2_000;
/** A message that auth does not take is sent this often, a second apart; then it is dropped. */
const ATTEMPTS = 3;

/** What was refused. */
export interface Refused {
  /** Method and pattern of the path, without the query. */
  readonly operation: string;
  readonly model?: string | undefined;
  /** Where it is not the code's. */
  readonly status?: number;
}

/**
 * Tells auth once a second which requests of known credentials were refused, for `GET /api/explain/:requestId`. Who was
 * not identified is only counted. A service to people who ask why, not a record: what does not fit is dropped and counted.
 */
@Injectable()
export class Refusals implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('refusals');
  private readonly buffer = new RefusalBuffer();
  private timer: NodeJS.Timeout | undefined;
  private sending: readonly Refusal[] = [];
  private attempts = 0;
  private flight: Promise<void> | undefined;
  private readonly refused = new Counter({
    name: 'gateway_refusals_total',
    help: 'Refused requests by code, and what became of their explanation',
    labelNames: ['code', 'explanation'],
  });

  constructor(
    private readonly whose: (headers: Headers) => KnownKey | undefined,
    /** A client of its own: what fails here must not open the breaker that look-ups of keys go through. */
    private readonly auth: ServiceClient,
    private readonly clock: Clock,
    /** All of them, where those that are explained are a part. */
    private readonly counts: Pick<RefusalCountsTeller, 'add'>,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => void this.flush(), FLUSH_MS);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flight;
    await this.flush();
    await this.auth.close();
  }

  /** @param why with a sentence of our own: not a worker's, which may repeat the prompt */
  note(
    request: { readonly id: string; readonly headers: Headers },
    { code, message }: { readonly code: ErrorCode; readonly message: string },
    { operation, model, status = ERRORS[code].status }: Refused,
  ): void {
    const key = this.whose(request.headers);
    // An operator's has no organization that could ask for it.
    if (key === undefined || key.organizationId === null) {
      this.refused.inc({ code, explanation: key === undefined ? 'unidentified' : 'operator' });
      return;
    }
    const { organizationId, project, keyId } = key;
    const asked = model === undefined ? null : storable(model.slice(0, MAX_REFUSAL_MODEL));
    this.counts.add({ organizationId, project: project ?? '', keyId, model: asked ?? '', code });
    const kept = this.buffer.add(
      {
        requestId: request.id,
        organizationId,
        project,
        keyId,
        code,
        status,
        message: storable(message.slice(0, MAX_REFUSAL_MESSAGE)),
        operation,
        model: asked,
        at: rfc3339(this.clock.now()),
      },
      this.clock.monotonic(),
    );
    this.refused.inc({ code, explanation: kept ? 'kept' : 'dropped' });
  }

  /** One message at a time. Never rejects. */
  flush(): Promise<void> {
    this.flight ??= this.send().finally(() => (this.flight = undefined));
    return this.flight;
  }

  private async send(): Promise<void> {
    if (this.sending.length === 0) {
      this.sending = this.buffer.take();
      this.attempts = 0;
    }
    if (this.sending.length === 0) return;
    this.attempts += 1;
    try {
      const body = { refusals: this.sending };
      await this.auth.tell({ method: 'POST', path: '/internal/refusals', body, timeoutMs: TIMEOUT_MS });
      this.sending = [];
    } catch (err) {
      // What auth refuses it will refuse again.
      const hopeless = err instanceof Rejected && ERRORS[err.code].status < 500;
      if (!hopeless && this.attempts < ATTEMPTS) return;
      this.log.warn({ err, refusals: this.sending.length }, 'auth did not take refusals: they cannot be explained');
      for (const { code } of this.sending) this.refused.inc({ code, explanation: 'lost' });
      this.sending = [];
    }
  }
}

/** PostgreSQL has no text with a NUL, and one such text would cost all that are sent with it. */
const storable = (text: string): string => text.replaceAll('\0', '\uFFFD').toWellFormed();

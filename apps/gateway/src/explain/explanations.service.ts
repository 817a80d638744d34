import type { OnApplicationShutdown } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { chargedRequestSchema } from '@sluice/contracts/billing';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import { meteredRequestSchema } from '@sluice/contracts/metering';
import { refusedRequestSchema } from '@sluice/contracts/refusals';
import { systemClock } from '@sluice/primitives/clock';
import { toRejected, type ServiceClient } from '@sluice/service-kit';
import type { z } from 'zod';
import { mayBeUnderWay, requestIdOf } from '../generations/request-id.js';
import { explanationOf } from './explanation.js';

/** Milliseconds for each question; there are two in a row at most. */
const ANSWER_MS = 1_000;

type Asked = 'auth' | 'metering' | 'billing';

/** `GET /api/explain/:requestId`: why a request was refused, or how it was charged, from those who know. */
export class Explanations implements OnApplicationShutdown {
  constructor(private readonly clients: Readonly<Record<Asked, ServiceClient>>) {}

  async onApplicationShutdown(): Promise<void> {
    await Promise.all(Object.values(this.clients).map((client) => client.close()));
  }

  /**
   * Of a request that the actor may see: auth and metering look at its organization and project.
   * @throws Rejected `not_found`; `unavailable` where one who may know does not answer: half an explanation would be wrong
   */
  async find(actor: Actor, id: string) {
    const requestId = requestIdOf(id);
    if (requestId === undefined)
      throw new Rejected('not_found', 'This is the id of no request.', { param: 'requestId' });
    const [refused, metered] = await Promise.all([
      this.ask('auth', `/internal/refusals/${requestId}`, actor, refusedRequestSchema),
      this.ask('metering', `/internal/usage/records/${requestId}`, actor, meteredRequestSchema),
    ]);
    // A charge knows no project: only who may see the record is told of it.
    const booked =
      metered && (await this.ask('billing', `/internal/charges/${requestId}`, actor, chargedRequestSchema));
    const explanation = explanationOf(requestId, refused, metered, booked);
    if (explanation) return explanation;
    const sentence =
      'No request with this id has ended here, nor was one refused in the last 24 hours; a new one is there a moment later.';
    const young = mayBeUnderWay(requestId, systemClock.now());
    throw new Rejected('not_found', sentence, { param: 'requestId', ...(young ? { retryAfter: 1 } : {}) });
  }

  /** Undefined: that service has nothing to tell of it. */
  private async ask<S extends z.ZodType>(
    service: Asked,
    path: string,
    actor: Actor,
    schema: S,
  ): Promise<z.infer<S> | undefined> {
    try {
      return await this.clients[service].ask({ method: 'GET', path, actor, timeoutMs: ANSWER_MS }, schema);
    } catch (cause) {
      const { code } = toRejected(cause);
      if (code === 'not_found') return undefined;
      if (ERRORS[code].status < 500) throw cause;
      throw new Rejected('unavailable', `${service} does not answer.`, { retryAfter: 1, cause });
    }
  }
}

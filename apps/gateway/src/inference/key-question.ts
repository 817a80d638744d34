import type { Scope } from '@sluice/contracts/auth';
import { systemClock } from '@sluice/primitives/clock';
import { toRejected } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { dialectOf } from '../dialects/dialect-of.js';
import { limitScopes } from '../limits/limit-scopes.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { Admission, Presented } from './admission.service.js';
import { refusalOf } from './inference.route.js';
import { refuse } from './refuse.js';

/**
 * What a key asks about itself, where the answer is in another service's database: it is a request to the key's limits,
 * takes no tokens, and is shown on a key that is still alive then.
 */
export class KeyQuestion {
  constructor(
    private readonly admission: Admission,
    private readonly refusals: Refusals,
    private readonly scope: Scope,
    private readonly operation: string,
  ) {}

  async answer(
    request: FastifyRequest,
    reply: FastifyReply,
    find: (presented: Presented) => Promise<object>,
  ): Promise<void> {
    try {
      const use = { scope: this.scope, address: request.ip } as const;
      const presented = await this.admission.identify(request.headers, use);
      const limits = await this.admission.limit(limitScopes(presented.credential), request.id, 0);
      if (limits) void reply.headers(dialectOf(request.url).rates(limits, systemClock.now()));
      if (limits?.refused) throw refusalOf(limits.refused, 0);
      let found: object;
      try {
        found = await find(presented);
      } finally {
        if (limits) this.admission.settle(limits, 0);
      }
      while (!this.admission.holds(presented)) await this.admission.prove(presented);
      await reply.header('x-request-id', request.id).send(found);
    } catch (error) {
      const rejected = toRejected(error);
      this.refusals.note(request, rejected, { operation: this.operation });
      refuse(reply, rejected);
    }
  }
}

import type { Credential } from '@sluice/contracts/auth';
import { formatUsd } from '@sluice/primitives/money';
import { toRejected } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Organizations } from '../organizations/organizations.service.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { Admission } from './admission.service.js';
import { refuse } from './refuse.js';

/** An answer about a key is not kept waiting for the balance beyond this. */
const BALANCE_MS = 250;

/** `GET /v1/key`: what this key is and may do. From memory, but for the balance the first time; it counts as no request. */
export class KeyRoute {
  constructor(
    private readonly admission: Admission,
    private readonly organizations: Organizations,
    private readonly refusals: Refusals,
  ) {}

  async handle(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    try {
      const use = { scope: 'inference:read', address: request.ip } as const;
      const presented = await this.admission.identify(request.headers, use);
      const { organizationId, keyPrefix } = presented;
      const balance = this.organizations.funds.peek(organizationId) ?? (await this.balanceSoon(organizationId));
      let credential = this.admission.holds(presented);
      while (!credential) {
        await this.admission.prove(presented);
        credential = this.admission.holds(presented);
      }
      void reply.header('x-request-id', request.id).send(keyAnswer(credential, keyPrefix, balance));
    } catch (error) {
      const rejected = toRejected(error);
      this.refusals.note(request, rejected, { operation: 'GET /v1/key' });
      refuse(reply, rejected);
    }
  }

  /** Undefined when billing does not say it in time; the question goes on, so that the next call has the answer. */
  private async balanceSoon(organizationId: string): Promise<bigint | undefined> {
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => late.resolve(undefined), BALANCE_MS);
    const asked = this.organizations.funds.get(organizationId).catch(() => undefined);
    return Promise.race([asked, late.promise]).finally(() => clearTimeout(timer));
  }
}

/** Money is decimal text in USD. */
function keyAnswer(credential: Credential, keyPrefix: string, balance: bigint | undefined) {
  const { keyId, name, kind, scopes, access, models, ipAllow, expiresAt, previousUntil } = credential;
  const { rpm, tpm, concurrency, priority, maxBudget, budgetReset, projectLimits, organizationLimits, subscription } =
    credential;
  return {
    id: keyId,
    name,
    keyType: kind,
    keyPrefix,
    status: 'active',
    scopes,
    access,
    models,
    ipAllow,
    expiresAt,
    /** Set for a secret that was rotated away: when it ends. */
    previousUntil,
    limits: { rpm, tpm, concurrency, priority },
    /** What it shares with the other keys of its project, and of its organization; null: no limit. */
    projectLimits,
    organizationLimits,
    maxBudget: maxBudget === null ? null : formatUsd(BigInt(maxBudget)),
    budgetReset,
    /** Of a key that is bound to one: the UTC hours it may be used in, and until when. */
    subscription,
    balance: balance === undefined ? null : formatUsd(balance),
    currency: 'USD',
  };
}

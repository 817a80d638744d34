import { Injectable } from '@nestjs/common';
import type { Credential, Scope, Workload } from '@sluice/contracts/auth';
import type { Price } from '@sluice/contracts/billing';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import { planeOf } from '@sluice/primitives/secret';
import type { Keys as KeysType } from '../keys/keys.service.js';
import { Keys } from '../keys/keys.service.js';
import { presentedCredential, type Headers } from '../keys/presented-secret.js';
import type { RateDecision, RateLimiter } from '../limits/limiter.js';
import type { Organizations } from '../organizations/organizations.service.js';
import type { Prices } from '../prices/prices.service.js';
import { callable, resolveModel } from './workload.js';

export interface Presented {
  readonly digest: string;
  readonly credential: Credential;
  readonly organizationId: string;
}

export interface Admitted extends Presented {
  readonly workload: Workload;
  readonly price: Price;
}

/** The rules that an inference request must pass before any work is done for it, in their order. */
@Injectable()
export class Admission {
  constructor(
    readonly keys: KeysType,
    private readonly organizations: Organizations,
    private readonly prices: Prices,
    private readonly limiter: RateLimiter,
  ) {}

  /** Who calls. @throws Rejected `invalid_api_key`, `wrong_credential_type`, `scope_insufficient`, `unavailable` */
  async identify(headers: Headers, scope: Scope): Promise<Presented> {
    const presented = presentedCredential(headers);
    if (presented === undefined) throw new Rejected('invalid_api_key');
    if (planeOf(presented.kind) !== 'inference') throw new Rejected('wrong_credential_type');
    const digest = Keys.digest(presented.secret);
    const credential = this.keys.admit(digest) ?? (await this.keys.find(digest));
    if (credential.organizationId === null) throw new Rejected('wrong_credential_type');
    requireAlive(credential);
    if (!credential.scopes.includes(scope))
      throw new Rejected('scope_insufficient', `This key lacks the scope ${scope}.`);
    return { digest, credential, organizationId: credential.organizationId };
  }

  /**
   * Which workload, at which price, and is there credit. Nothing is awaited on a warm request.
   * @throws Rejected the codes of `resolveModel`, `insufficient_quota`, `unavailable`
   */
  async place(presented: Presented, model: string): Promise<Admitted> {
    const { organizationId } = presented;
    const workload = await this.resolve(presented, model);
    let price = this.prices.current(workload.model);
    if (!price) {
      await this.prices.refresh();
      price = this.prices.current(workload.model);
    }
    if (!price) throw new Rejected('unavailable', `The model ${workload.model} has no price yet.`, { retryAfter: 30 });
    const { funds } = this.organizations;
    let available = funds.peek(organizationId) ?? (await funds.get(organizationId));
    if (available <= 0n) available = await funds.again(organizationId);
    if (available <= 0n) throw new Rejected('insufficient_quota');
    return { ...presented, workload, price };
  }

  /** Takes one request of the key's rate. The decision's numbers go out as headers, refused or not. */
  async rate({ credential }: Presented, requestId: string): Promise<RateDecision | undefined> {
    return credential.rpm === null ? undefined : this.limiter.admit(credential.keyId, credential.rpm, requestId);
  }

  async workloadsOf({ credential, organizationId }: Presented): Promise<Workload[]> {
    return callable(credential, await this.organizations.workloads.get(organizationId));
  }

  /** The last check, for the very turn in which something is done on the key: is there evidence that it is alive? */
  holds(digest: string): boolean {
    const credential = this.keys.admit(digest);
    if (credential) requireAlive(credential);
    return credential !== undefined;
  }

  /** Asks for evidence until `holds` says yes. @throws Rejected `invalid_api_key`, `api_key_expired`, `unavailable` */
  async prove(digest: string): Promise<void> {
    requireAlive(await this.keys.find(digest));
  }

  private async resolve({ credential, organizationId }: Presented, model: string): Promise<Workload> {
    const { workloads } = this.organizations;
    try {
      return resolveModel(model, credential, workloads.peek(organizationId) ?? (await workloads.get(organizationId)));
    } catch (error) {
      // It may have been made a moment ago: a "no" is only given on a new answer.
      if (!(error instanceof Rejected) || ERRORS[error.code].status !== 404) throw error;
      return resolveModel(model, credential, await workloads.again(organizationId));
    }
  }
}

function requireAlive(credential: Credential): void {
  if (credential.expiresAt !== null && Date.parse(credential.expiresAt) <= Date.now())
    throw new Rejected('api_key_expired');
}

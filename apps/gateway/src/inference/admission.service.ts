import { Injectable } from '@nestjs/common';
import type { Workload } from '@sluice/contracts/auth';
import type { Price } from '@sluice/contracts/billing';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { planeOf } from '@sluice/primitives/secret';
import type { Keys } from '../keys/keys.service.js';
import type { KnownKey } from '../keys/known-key.js';
import { permits, type Use } from '../keys/permits.js';
import type { Headers } from '../keys/presented-secret.js';
import type { PreviousUses } from '../keys/previous-uses.service.js';
import { ReservedTime } from '../keys/reserved.js';
import type { LimitScope } from '../limits/limit-scopes.js';
import type { RateDecision, RateLimiter } from '../limits/limiter.js';
import type { Organizations } from '../organizations/organizations.service.js';
import type { Prices } from '../prices/prices.service.js';
import { callable, resolveModel } from './workload.js';

export interface Presented {
  readonly digest: string;
  /** What lists show of the secret. */
  readonly keyPrefix: string;
  readonly credential: KnownKey;
  readonly organizationId: string;
  readonly use: Use;
}

export interface Admitted extends Presented {
  readonly workload: Workload;
  readonly price: Price;
}

/** The rules that an inference request must pass before any work is done for it, in their order. */
@Injectable()
export class Admission {
  private readonly reservedTime = new ReservedTime();

  constructor(
    private readonly keys: Keys,
    private readonly organizations: Organizations,
    private readonly prices: Prices,
    private readonly limiter: RateLimiter,
    private readonly previousUses: PreviousUses,
  ) {}

  /**
   * Who calls, from where, and may it do this kind of thing.
   * @throws Rejected `invalid_api_key`, `api_key_expired`, `wrong_credential_type`, `ip_not_allowed`, `scope_insufficient`,
   * `unavailable`
   */
  async identify(headers: Headers, use: Use): Promise<Presented> {
    const { digest, kind, keyPrefix } = this.keys.presented(headers);
    if (planeOf(kind) !== 'inference') throw new Rejected('wrong_credential_type');
    const credential = this.keys.admit(digest) ?? (await this.keys.find(digest));
    const { organizationId } = credential;
    if (organizationId === null) throw new Rejected('wrong_credential_type');
    permits(credential, use);
    if (credential.reserved) this.reservedTime.requireGood(credential.reserved, systemClock.now());
    this.previousUses.note(credential);
    return { digest, keyPrefix, credential, organizationId, use };
  }

  /**
   * Which workload, at which price, and is there credit, or is it the subscription's time: what that reserves is paid for.
   * Nothing is awaited on a warm request.
   * @throws Rejected the codes of `resolveModel`, `insufficient_quota`, `outside_reserved_block`, `api_key_expired`,
   * `unavailable`
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
    const { reserved } = presented.credential;
    if (reserved) {
      this.reservedTime.requireInside(reserved, systemClock.now());
    } else {
      const { funds } = this.organizations;
      let available = funds.peek(organizationId) ?? (await funds.get(organizationId));
      if (available <= 0n) available = await funds.again(organizationId);
      if (available <= 0n) throw new Rejected('insufficient_quota');
    }
    return { ...presented, workload, price, use: { ...presented.use, workload } };
  }

  /**
   * Takes one request of the limits of key, project and organization; undefined where there are none. The numbers of the
   * key's own go out as headers, refused or not; what it took must be settled at the end.
   * @param estimate tokens
   */
  async limit(scopes: readonly LimitScope[], requestId: string, estimate: number): Promise<RateDecision | undefined> {
    return scopes.length === 0 ? undefined : this.limiter.admit(scopes, requestId, estimate);
  }

  /** @param tokens what the request really took */
  settle({ place }: RateDecision, tokens: number): void {
    this.limiter.settle(place, tokens);
  }

  async workloadsOf({ credential, organizationId }: Presented): Promise<Workload[]> {
    return callable(credential, await this.organizations.workloads.get(organizationId));
  }

  /**
   * The last check, for the very turn in which something is done on the key: is there evidence that it is alive, and
   * does it still permit this? Undefined: there is no evidence.
   * @throws Rejected what `permits` refuses with; `api_key_expired`, `invalid_api_key`
   */
  holds({ digest, use }: Pick<Presented, 'digest' | 'use'>): KnownKey | undefined {
    const credential = this.keys.admit(digest);
    if (credential) permits(credential, use);
    return credential;
  }

  /** Asks for evidence until `holds` says yes. @throws Rejected as `holds` does; `unavailable` */
  async prove({ digest, use }: Pick<Presented, 'digest' | 'use'>): Promise<void> {
    permits(await this.keys.find(digest), use);
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

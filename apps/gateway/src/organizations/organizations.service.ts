import { Injectable } from '@nestjs/common';
import { workloadsResponseSchema, type Workload } from '@sluice/contracts/auth';
import { fundsResponseSchema } from '@sluice/contracts/billing';
import type { ServiceClient } from '@sluice/service-kit';
import { Recent } from './recent.service.js';

const FRESH_MS = 2_000;
/** How long what is known of an organization is used while its owner does not answer. */
const USABLE_MS = 60_000;
const CAPACITY = 100_000;

/** What a request must know of its organization beside the key: the workloads, and whether there is credit. */
@Injectable()
export class Organizations {
  readonly workloads: Recent<readonly Workload[]>;
  /** Pico-USD available. Not yet a hold: that comes with leases; billing never charges below zero. */
  readonly funds: Recent<bigint>;

  constructor(auth: ServiceClient, billing: ServiceClient) {
    const times = { freshMs: FRESH_MS, usableMs: USABLE_MS, capacity: CAPACITY };
    this.workloads = new Recent(async (id) => {
      const path = `/internal/organizations/${encodeURIComponent(id)}/workloads`;
      return (await auth.ask({ method: 'GET', path }, workloadsResponseSchema)).workloads;
    }, times);
    this.funds = new Recent(async (id) => {
      const path = `/internal/funds/${encodeURIComponent(id)}`;
      return BigInt((await billing.ask({ method: 'GET', path }, fundsResponseSchema)).available);
    }, times);
  }
}

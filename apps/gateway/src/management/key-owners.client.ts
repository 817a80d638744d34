import type { Actor } from '@sluice/contracts/actor';
import type { ServiceClient } from '@sluice/service-kit';

/** Whose a key is, for operations on keys that another service than auth carries out. */
export class KeyOwners {
  constructor(private readonly auth: ServiceClient) {}

  /**
   * Is there, or was there, such a key, and may the actor see it?
   * @param id as it stands in the path
   * @throws Rejected `not_found`, `unavailable`
   */
  async require(actor: Actor, id: string): Promise<void> {
    await this.auth.tell({ method: 'GET', path: `/internal/keys/${id}`, actor });
  }

  async close(): Promise<void> {
    await this.auth.close();
  }
}

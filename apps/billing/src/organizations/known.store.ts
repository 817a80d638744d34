import type { EntityManager } from '@mikro-orm/postgresql';
import { Rejected } from '@sluice/contracts/errors';
import { tablesOf } from '../tables.js';

/** @throws Rejected `not_found` for an organization that auth has not told about, or not yet */
export async function requireOrganizationKnown(em: EntityManager, organizationId: string): Promise<void> {
  const known = await tablesOf(em)
    .selectFrom('organizations')
    .select('organization_id')
    .where('organization_id', '=', organizationId)
    .executeTakeFirst();
  if (known) return;
  throw new Rejected(
    'not_found',
    'Billing does not know this organization. If it has just been created, try again in a moment with the same Idempotency-Key.',
    { param: 'organizationId', retryAfter: 1 },
  );
}

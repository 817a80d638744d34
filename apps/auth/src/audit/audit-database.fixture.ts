import { MikroORM } from '@mikro-orm/postgresql';
import type { Actor } from '@sluice/contracts/actor';
import { chainFault, type ChainedEntry } from '@sluice/contracts/audit';
import { eventCodec, type Decider } from '@sluice/event-sourcing';
import { EventStore, migrate } from '@sluice/event-store';
import { systemId } from '@sluice/primitives/id';
import { z } from 'zod';
import { authDatabase } from '../database.js';
import { metadataOf } from '../metadata.js';
import { auditTrail } from './audit-trail.store.js';
import { auditTables } from './tables.js';

export const someone = (organizationId: string | null, over: Partial<Actor> = {}): Actor => ({
  kind: 'management',
  keyId: 'mk-1',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId,
  project: null,
  requestId: systemId(),
  address: '192.0.2.7',
  ...over,
});

const thingEvents = {
  ThingMade: z.object({ organizationId: z.string().nullable(), digest: z.string(), note: z.string() }),
} as const;
type ThingEvent = { readonly type: 'ThingMade'; readonly data: z.output<(typeof thingEvents)['ThingMade']> };
const thing: Decider<ThingEvent['data'], undefined, ThingEvent> = {
  initial: undefined,
  decide: (data) => [{ type: 'ThingMade', data }],
  evolve: () => undefined,
};

/** auth's database and a kind of stream that any organization may have, with the audit registered as it is everywhere. */
export async function auditDatabase(url: string) {
  const options = authDatabase(url);
  await migrate(options);
  const orm = await MikroORM.init(options);
  const store = new EventStore({ em: orm.em, codec: eventCodec(thingEvents), projections: [auditTrail] });
  return {
    orm,
    make: (
      actor: Actor,
      {
        organizationId = actor.organizationId,
        stream = systemId(),
        note = 'n',
        em = undefined as typeof orm.em | undefined,
      } = {},
    ) =>
      store.handle(
        thing,
        `thing-${stream}`,
        { organizationId, digest: 'never to be seen', note },
        metadataOf(actor),
        em === undefined ? {} : { em },
      ),
    chain: async (organizationId: string): Promise<ChainedEntry[]> => {
      const rows = await auditTables(orm.em.fork())
        .selectFrom('audit_entries')
        .selectAll()
        .where('organization_id', '=', organizationId)
        .orderBy('seq')
        .execute();
      return rows.map(({ seq, entry, hash, previous_hash }) => ({
        organizationId,
        seq: Number(seq),
        entry,
        hash,
        previousHash: previous_hash,
      }));
    },
  };
}

/** The first fault of a whole chain. */
export function faultOf(chain: readonly ChainedEntry[]): string | undefined {
  let head = { seq: 0, hash: '' };
  for (const next of chain) {
    const fault = chainFault(head, next);
    if (fault !== undefined) return fault;
    head = next;
  }
  return undefined;
}

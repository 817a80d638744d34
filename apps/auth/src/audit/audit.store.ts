import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { AuditedCommand, AuditEntry, AuditHead } from '@sluice/contracts/audit';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { actorText } from '../metadata.js';
import type { AuditFilters, ShownEntry } from './audit-query.js';
import { appendEntries } from './audit-trail.store.js';
import { PLATFORM } from './entry.js';
import { auditTables } from './tables.js';

const HEADS_PAGE = 1_000;

/** The chains of audit entries: read by page, from either end. */
@Injectable()
export class AuditStore {
  constructor(
    private readonly em: EntityManager,
    private readonly clock: Clock,
  ) {}

  /** Newest first, those before `cursor`. */
  async list(
    organizationId: string,
    filters: AuditFilters,
    { limit, cursor }: { limit: number; cursor: number | undefined },
  ): Promise<ShownEntry[]> {
    const rows = await this.entries(organizationId, filters)
      .$if(cursor !== undefined, (query) => query.where('e.seq', '<', String(cursor)))
      .orderBy('e.seq', 'desc')
      .limit(limit)
      .execute();
    return rows.map(shown);
  }

  /** Oldest first, those behind `after`. */
  async follow(
    organizationId: string,
    filters: AuditFilters,
    { limit, after }: { limit: number; after: number },
  ): Promise<ShownEntry[]> {
    const rows = await this.entries(organizationId, filters)
      .where('e.seq', '>', String(after))
      .orderBy('e.seq')
      .limit(limit)
      .execute();
    return rows.map(shown);
  }

  /** A command that another service carries out: before it is forwarded, or with the status it was answered with. */
  async record(actor: Actor, { action, target, fields, status }: AuditedCommand): Promise<void> {
    const entry = {
      at: rfc3339(this.clock.now()),
      actor: actorText(actor),
      action,
      target,
      requestId: actor.requestId,
      changes: status === undefined ? fields : { ...fields, status },
    };
    const organizationId = actor.organizationId ?? PLATFORM;
    const { address, memberId } = actor;
    await this.em.fork().transactional((em) => appendEntries(em, [{ organizationId, entry, address, memberId }]));
  }

  /** The heads of all chains, a page at a time. */
  async *heads(): AsyncGenerator<AuditHead[]> {
    for (let after: string | undefined; ;) {
      const rows = await auditTables(this.em.fork())
        .selectFrom('audit_heads')
        .selectAll()
        .$if(after !== undefined, (query) => query.where('organization_id', '>', after!))
        .orderBy('organization_id')
        .limit(HEADS_PAGE)
        .execute();
      if (rows.length > 0)
        yield rows.map(({ organization_id, seq, hash }) => ({
          organizationId: organization_id,
          seq: Number(seq),
          hash,
        }));
      if (rows.length < HEADS_PAGE) return;
      after = rows.at(-1)!.organization_id;
    }
  }

  private entries(organizationId: string, { from, to, actor, action, target }: AuditFilters) {
    return auditTables(this.em.fork())
      .selectFrom('audit_entries as e')
      .leftJoin('audit_addresses as a', (join) =>
        join.onRef('a.organization_id', '=', 'e.organization_id').onRef('a.seq', '=', 'e.seq'),
      )
      .select(['e.seq', 'e.entry', 'e.previous_hash', 'e.hash', 'a.address'])
      .where('e.organization_id', '=', organizationId)
      .$if(from !== undefined, (query) => query.where('e.at', '>=', rfc3339(Date.parse(from!))))
      .$if(to !== undefined, (query) => query.where('e.at', '<', rfc3339(Date.parse(to!))))
      .$if(action !== undefined, (query) => query.where('e.action', '=', action!))
      .$if(target !== undefined, (query) => query.where('e.target', '=', target!))
      .$if(actor !== undefined, (query) =>
        // `/` ends a member's id, and `0` is what follows it: all of its sessions as one range of the index.
        query.where(sql<boolean>`(e.actor = ${actor} or (e.actor > ${`${actor}/`} and e.actor < ${`${actor}0`}))`),
      );
  }
}

interface Row {
  readonly seq: string;
  readonly entry: string;
  readonly previous_hash: string;
  readonly hash: string;
  readonly address: string | null;
}

const shown = ({ seq, entry, previous_hash, hash, address }: Row): ShownEntry => ({
  seq: Number(seq),
  ...(JSON.parse(entry) as AuditEntry),
  address,
  previousHash: previous_hash,
  hash,
});

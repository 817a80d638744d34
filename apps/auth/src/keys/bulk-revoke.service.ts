import { MikroORM } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import type { Reached } from '../gateways/in-force.service.js';
import { together } from './together.js';
import type { BulkRevokeRequest, Selection } from './bulk-revoke.js';
import { KeysService } from './keys.service.js';

/** Keys that end by one call, at most; the answer says how many remain. */
const MAX_KEYS = 10_000;
/** Keys that end together: what a slow database has done when the time is up is in force and answered for. */
const CHUNK = 500;
/** No chunk begins later than this: the gateway waits 15 s for the answer. */
const BEGIN_WITHIN_MS = 6_000;

export interface BulkRevoked {
  readonly revoked: number;
  /** Keys that are meant and still there: ask again. */
  readonly remaining: number;
  readonly reached: Reached;
}

/** Ends the keys of a project, of a member, or of a tag. */
@Injectable()
export class BulkRevokes {
  constructor(
    private readonly orm: MikroORM,
    private readonly keys: KeysService,
  ) {}

  /** Never the credential that asks: it is still needed to see what became of it. */
  async revoke(
    actor: Actor,
    selection: Selection,
    reason: BulkRevokeRequest['reason'],
    inflight: 'cut' | 'drain',
  ): Promise<BulkRevoked> {
    const until = systemClock.monotonic() + BEGIN_WITHIN_MS;
    let revoked = 0;
    let reached: Reached = together([]);
    while (revoked < MAX_KEYS && systemClock.monotonic() < until) {
      const keys = await this.matching(selection, reason, actor.keyId);
      if (keys.length === 0) break;
      const chunk = await this.keys.revokeMany(actor, keys, reason, inflight);
      revoked += chunk.revoked;
      reached = together([reached, chunk.reached]);
    }
    // A repetition finds nothing more to end, and that may be pending since the first time.
    if (await this.anyPending(selection)) reached = { pending: true };
    return { revoked, remaining: await this.remaining(selection, reason, actor.keyId), reached };
  }

  private async matching(selection: Selection, reason: string, except: string): Promise<{ keyId: string }[]> {
    const { rows } = await sql<{ keyId: string }>`
      select k.key_id as "keyId" from api_keys k where ${ended(reason)} and ${meant(selection)} and k.key_id <> ${except}
      order by k.key_id limit ${CHUNK}
    `.execute(this.orm.em.fork().getKysely());
    return rows;
  }

  private async remaining(selection: Selection, reason: string, except: string): Promise<number> {
    const { rows } = await sql<{ count: string }>`
      select count(*) from api_keys k where ${ended(reason)} and ${meant(selection)} and k.key_id <> ${except}
    `.execute(this.orm.em.fork().getKysely());
    return Number(rows[0]!.count);
  }

  private async anyPending(selection: Selection): Promise<boolean> {
    const { rows } = await sql`
      select 1 from pending_in_force p join api_keys k on k.key_id = p.id
      where p.at is null and ${meant(selection)} limit 1
    `.execute(this.orm.em.fork().getKysely());
    return rows.length > 0;
  }
}

/** Which of them there is something to end of. */
const ended = (reason: string) =>
  reason === 'deleted' ? sql<boolean>`k.status <> 'deleted'` : sql<boolean>`k.status = 'active'`;

const meant = ({ organizationId, project, memberId, tag }: Selection) => sql<boolean>`
  k.organization_id = ${organizationId} and k.kind <> 'operator'
  and (${project ?? null}::text is null or k.project = ${project ?? null})
  and (${memberId ?? null}::text is null or k.created_by_member = ${memberId ?? null})
  and (${tag ?? null}::text is null or k.tags @> ${JSON.stringify(tag === undefined ? [] : [tag])}::jsonb)`;

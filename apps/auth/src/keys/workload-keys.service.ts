import { MikroORM } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { sql } from 'kysely';
import type { Reached } from '../gateways/in-force.service.js';
import type { Page } from './keys.store.js';
import { KeyRow, type Key } from './key.entity.js';
import { KeysService } from './keys.service.js';
import { together } from './together.js';
import { withAccess, withoutAccess } from './workload-keys.js';

/** Keys that are changed at the same time: each waits until its change is in force. */
const AT_ONCE = 25;
const ATTEMPTS = 3;

/** The other side of a key's access: which keys a workload can be called with. */
@Injectable()
export class WorkloadKeys {
  constructor(
    private readonly orm: MikroORM,
    private readonly keys: KeysService,
  ) {}

  /** Keys whose access covers the workload, by its own name or by its project's, by id. */
  async covering(organizationId: string, workload: string, own: string | null, page: Page): Promise<Key[]> {
    const all = `${workload.split('/', 1)[0]!}/*`;
    return this.having(organizationId, [workload, all], own, page);
  }

  /** @throws Rejected `not_found` for an id that is no key the actor could see */
  async named(actor: Actor, organizationId: string, keyIds: readonly string[]): Promise<Key[]> {
    const where = {
      keyId: { $in: [...keyIds] },
      organizationId,
      kind: { $in: ['credit' as const, 'subscription' as const] },
      status: { $ne: 'deleted' as const },
      ...(actor.project === null ? {} : { project: actor.project }),
    };
    const found = await this.orm.em.fork().find(KeyRow, where);
    const missing = keyIds.find((keyId) => !found.some((key) => key.keyId === keyId));
    if (missing !== undefined) {
      throw new Rejected('not_found', `There is no key ${missing}.`, { param: 'keyIds' });
    }
    return found;
  }

  /**
   * Makes exactly these keys name the workload in their access; whoever named it besides does no more. Keys that have the
   * whole project are left alone, and so are keys that the actor can't see. @returns undefined when nothing changed
   */
  async ensure(
    actor: Actor,
    organizationId: string,
    workload: string,
    wanted: readonly Key[],
  ): Promise<Reached | undefined> {
    const ids = new Set(wanted.map(({ keyId }) => keyId));
    const naming = await this.having(organizationId, [workload], actor.project);
    const changes = [
      ...wanted
        .filter(({ access }) => !access.includes(workload))
        .map((key) => ({ key, change: (access: readonly string[]) => withAccess(access, workload) })),
      ...naming
        .filter(({ keyId }) => !ids.has(keyId))
        .map((key) => ({ key, change: (access: readonly string[]) => withoutAccess(access, workload) })),
    ];
    const reached: Reached[] = [];
    for (let from = 0; from < changes.length; from += AT_ONCE) {
      const batch = changes.slice(from, from + AT_ONCE).map(({ key, change }) => this.change(actor, key, change));
      reached.push(...(await Promise.all(batch)).filter((one) => one !== undefined));
    }
    return changes.length === 0 ? undefined : together(reached);
  }

  /** Reads and writes until nobody was in between. @throws Rejected `conflict` for a key that has ended */
  private async change(
    actor: Actor,
    key: Key,
    change: (access: readonly string[]) => string[],
  ): Promise<Reached | undefined> {
    for (let row = key, attempt = 1; ; attempt += 1) {
      try {
        const { reached } = await this.keys.update(
          actor,
          row,
          { access: change(row.access) },
          { ifMatch: row.version },
        );
        return reached;
      } catch (error) {
        const raced = error instanceof Rejected && error.code === 'precondition_failed';
        if (!raced || attempt === ATTEMPTS) throw error;
        row = await this.keys.get(key.organizationId ?? null, key.keyId, [key.kind], null);
      }
    }
  }

  /** Keys that have not ended and have one of these entries. */
  private async having(
    organizationId: string,
    entries: readonly string[],
    own: string | null,
    page?: Page,
  ): Promise<Key[]> {
    const em = this.orm.em.fork();
    const { rows } = await sql<Record<string, unknown>>`
      select * from api_keys
      where organization_id = ${organizationId} and kind in ('credit', 'subscription')
        and status in ('active', 'deactivated') and (expires_at is null or expires_at > now())
        and access ?| ${entries}::text[]
        and (${own}::text is null or project = ${own})
        and key_id > ${page?.after ?? ''}
      order by key_id limit ${page?.limit ?? null}
    `.execute(em.getKysely());
    return rows.map((row) => em.map(KeyRow, row));
  }
}

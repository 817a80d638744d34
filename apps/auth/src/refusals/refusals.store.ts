import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import type { Refusal } from '@sluice/contracts/refusals';
import { unnest } from '@sluice/event-store';
import type { Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { sql } from 'kysely';

export const KEPT_PER_ORGANIZATION = 10_000;
export const KEPT_MS = 24 * 60 * 60 * 1000;
const SWEEP_EVERY_MS = 60_000;
/** Rows that one statement deletes: it must not hold locks for long. */
const SWEEP_ROWS = 10_000;

interface RefusalTables {
  refusals: {
    request_id: string;
    organization_id: string;
    project: string | null;
    key_id: string;
    code: string;
    status: number;
    message: string;
    operation: string;
    model: string | null;
    at: Date;
  };
}

/** Refused requests: the newest 10,000 of an organization, for 24 h. */
@Injectable()
export class RefusalsStore implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('refusals');
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly em: EntityManager,
    private readonly clock: Clock,
  ) {}

  onModuleInit(): void {
    const sweep = () => void this.sweep().catch((err: unknown) => this.log.debug({ err }, 'no sweeping now'));
    this.timer = setInterval(sweep, SWEEP_EVERY_MS);
    this.timer.unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** What came before stays as it was; what is beyond the bound of its organization goes at once. */
  async add(refusals: readonly Refusal[]): Promise<void> {
    const { names, rows } = unnest(refusals, {
      request_id: ['text', ({ requestId }) => requestId],
      organization_id: ['text', ({ organizationId }) => organizationId],
      project: ['text', ({ project }) => project],
      key_id: ['text', ({ keyId }) => keyId],
      code: ['text', ({ code }) => code],
      status: ['integer', ({ status }) => status],
      message: ['text', ({ message }) => message],
      operation: ['text', ({ operation }) => operation],
      model: ['text', ({ model }) => model],
      at: ['timestamptz', ({ at }) => at],
    });
    const organizations = [...new Set(refusals.map(({ organizationId }) => organizationId))].toSorted();
    await this.em.fork().transactional(async (em) => {
      const db = em.getKysely<RefusalTables>();
      await sql`insert into refusals (${names}) (${rows}) on conflict (request_id) do nothing`.execute(db);
      await sql`
        delete from refusals r
        using unnest(${organizations}::text[]) as o(organization_id),
          lateral (
            select at, request_id from refusals where organization_id = o.organization_id
            order by at desc, request_id desc offset ${KEPT_PER_ORGANIZATION} limit 1
          ) as beyond
        where r.organization_id = o.organization_id and (r.at, r.request_id) <= (beyond.at, beyond.request_id)`.execute(
        db,
      );
    });
  }

  /** @param project of a key bound to one: it sees no others */
  async find(organizationId: string, project: string | null, requestId: string): Promise<Refusal | undefined> {
    const db = this.em.fork().getKysely<RefusalTables>();
    const row = await db
      .selectFrom('refusals')
      .selectAll()
      .where('request_id', '=', requestId)
      .where('organization_id', '=', organizationId)
      .where('at', '>=', new Date(this.clock.now() - KEPT_MS))
      .$if(project !== null, (query) => query.where('project', '=', project))
      .executeTakeFirst();
    if (!row) return undefined;
    const { request_id, organization_id, key_id, at, ...rest } = row;
    return {
      ...rest,
      requestId: request_id,
      organizationId: organization_id,
      keyId: key_id,
      at: new Date(at).toISOString(),
    };
  }

  /** Deletes what is older than 24 h. Any number of replicas may do it at once: each skips what another has locked. */
  async sweep(): Promise<void> {
    const until = new Date(this.clock.now() - KEPT_MS).toISOString();
    for (;;) {
      const { numAffectedRows } = await sql`
        delete from refusals where request_id in (
          select request_id from refusals where at < ${until} limit ${SWEEP_ROWS} for update skip locked
        )`.execute(this.em.fork().getKysely<RefusalTables>());
      if ((numAffectedRows ?? 0n) < SWEEP_ROWS) return;
    }
  }
}

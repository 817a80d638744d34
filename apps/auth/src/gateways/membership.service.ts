import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { sql } from 'kysely';
import { GatewayRow } from './gateway.entity.js';

/** Who is a gateway: registered before its first look-up, under an id that was never used before. */
@Injectable()
export class GatewayMembership {
  constructor(private readonly em: EntityManager) {}

  /** A repetition by the same process changes nothing. @throws Rejected `conflict` for an id that is done with */
  async register(boot: string, url: string): Promise<void> {
    const em = this.em.fork();
    await sql`
      insert into gateways (boot, url, registered_at, last_lookup_at)
      values (${boot}, ${url}, now(), date_trunc('milliseconds', now())) on conflict (boot) do nothing
    `.execute(em.getKysely());
    const { retiringAt, retiredAt } = await em.findOneOrFail(GatewayRow, { boot });
    if (retiringAt || retiredAt) throw new Rejected('conflict', 'A boot id is never used again.');
  }

  /** By the process itself, after it stopped admitting: nobody has to wait for its evidence. */
  async leave(boot: string): Promise<void> {
    await sql`update gateways set retired_at = now() where boot = ${boot} and retired_at is null`.execute(
      this.em.fork().getKysely(),
    );
  }
}

/**
 * To be called before a look-up reads anything else: what is read later is at least as new as the membership. Whoever
 * passes here sent its look-up before its id began to retire, so that the look-up's evidence has ended L after that.
 * Notes the look-up, to the second, for the reaper.
 * @throws Rejected `unknown_gateway` for who is not registered, retired, or about to be: it would not hear of a key's end
 */
export async function requireRegistered(em: EntityManager, boot: string): Promise<void> {
  const tables = em.getKysely();
  const { rows } = await sql<{ noted: boolean }>`
    select last_lookup_at > now() - interval '1 second' as noted from gateways
    where boot = ${boot} and retiring_at is null and retired_at is null
  `.execute(tables);
  if (!rows[0]) throw new Rejected('unknown_gateway');
  if (rows[0].noted) return;
  // Whole milliseconds: the reaper compares what it has read.
  await sql`
    update gateways set last_lookup_at = date_trunc('milliseconds', now())
    where boot = ${boot} and retiring_at is null and retired_at is null
      and last_lookup_at <= now() - interval '1 second'
  `.execute(tables);
}

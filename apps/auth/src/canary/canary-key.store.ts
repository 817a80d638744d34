import type { EntityManager } from '@mikro-orm/postgresql';
import type { Invalidation } from '@sluice/contracts/auth';
import { enqueue, type OutboxMessage } from '@sluice/event-store';
import { assert } from '@sluice/primitives/assert';
import { systemId } from '@sluice/primitives/id';
import { sql } from 'kysely';
import { invalidationMessage } from '../keys/invalidation.js';
import { KeyRow, KeySecretRow } from '../keys/key.entity.js';

/** Nobody's organization: no actor belongs to it, so its key is in no list; it has no events, so it is in no audit. */
export const SYSTEM_ORGANIZATION = 'system';
export const CANARY_KEY_ID = 'canary';

/** Another replica leads. */
export class NotLeading extends Error {
  override readonly name = 'NotLeading';
}

export interface Toggled {
  readonly invalidation: Invalidation;
  readonly outbox: readonly OutboxMessage[];
}

/**
 * The canary's key, and who may turn it on and off. It is not event-sourced: two events every few seconds would make its
 * stream grow for ever. Otherwise it is a key like any other, so that look-ups and gateways can't tell it from one.
 *
 * A leader holds a lease, and every change asks for it in its own transaction: a process that was stopped and wakes
 * can't turn on what another one has turned off.
 */
export class CanaryKeyStore {
  constructor(
    private readonly em: EntityManager,
    private readonly holder: string,
  ) {}

  /** Takes the lead, or goes on leading. @returns null: another leads; `fresh`: the secret has to be replaced */
  async lead(leaseMs: number): Promise<{ fresh: boolean } | null> {
    return this.em.fork().transactional(async (tx) => {
      const { rows } = await sql<{ holder: string; free: boolean }>`
        select holder, until < now() as free from canary_leader for update
      `.execute(tx.getKysely());
      const { holder, free } = rows[0]!;
      if (holder !== this.holder && !free) return null;
      await sql`
        update canary_leader set holder = ${this.holder}, until = now() + ${leaseMs}::int * interval '1 millisecond'
      `.execute(tx.getKysely());
      return { fresh: holder !== this.holder };
    });
  }

  async stopLeading(): Promise<void> {
    await sql`update canary_leader set until = '-infinity' where holder = ${this.holder}`.execute(
      this.em.fork().getKysely(),
    );
  }

  /** Replaces the secret, and turns the key off. @throws NotLeading */
  async replaceSecret(digest: string, keyPrefix: string): Promise<Toggled> {
    return this.whileLeading(async (tx) => {
      if ((await tx.count(KeyRow, { keyId: CANARY_KEY_ID })) === 0) {
        await tx.insert(KeyRow, {
          keyId: CANARY_KEY_ID,
          organizationId: SYSTEM_ORGANIZATION,
          kind: 'credit',
          name: 'canary',
          tags: [],
          keyPrefix,
          scopes: ['inference:read'],
          access: [],
          status: 'deactivated',
          suspended: false,
          version: 1,
          issuedAt: new Date(),
        });
      }
      await tx.nativeDelete(KeySecretRow, { keyId: CANARY_KEY_ID });
      await tx.insert(KeySecretRow, { digest, keyId: CANARY_KEY_ID, until: null });
      await tx.nativeUpdate(KeyRow, { keyId: CANARY_KEY_ID }, { keyPrefix });
      return turn(tx, false);
    });
  }

  /** A new version of the key that is on, or off. @throws NotLeading */
  async turn(on: boolean): Promise<Toggled> {
    return this.whileLeading((tx) => turn(tx, on));
  }

  private async whileLeading<T>(work: (tx: EntityManager) => Promise<T>): Promise<T> {
    return this.em.fork().transactional(async (tx) => {
      const { rows } = await sql`
        select 1 from canary_leader where holder = ${this.holder} and until > now() for update
      `.execute(tx.getKysely());
      if (rows.length === 0) throw new NotLeading();
      return work(tx);
    });
  }
}

async function turn(tx: EntityManager, on: boolean): Promise<Toggled> {
  const { rows } = await sql<{ version: number }>`
    update api_keys set status = ${on ? 'active' : 'deactivated'}, version = version + 1
    where key_id = ${CANARY_KEY_ID} returning version
  `.execute(tx.getKysely());
  assert(rows.length === 1, 'the canary has its key');
  const invalidation = { id: CANARY_KEY_ID, version: rows[0]!.version, inflight: 'cut' as const };
  return { invalidation, outbox: await enqueue(tx, [invalidationMessage(systemId(), invalidation)]) };
}

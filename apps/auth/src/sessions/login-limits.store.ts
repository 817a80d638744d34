import type { EntityManager } from '@mikro-orm/postgresql';
import { Rejected } from '@sluice/contracts/errors';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { bucketOf, LOGIN_LIMITS, type LoginLimitKind } from './login-limits.js';
import { sessionTables } from './tables.js';

/**
 * Counts an attempt before it is made, in a transaction of its own: what runs at the same time, in any replica, can't get
 * past it, and a process that dies has counted.
 * @throws Rejected `rate_limit_exceeded` when the window is full; that attempt is not counted
 */
export async function countAttempt(em: EntityManager, kind: LoginLimitKind, who: string, now: number): Promise<void> {
  const { attempts, windowMs } = LOGIN_LIMITS[kind];
  const bucket = bucketOf(kind, who);
  const at = rfc3339(now);
  const over = sql<boolean>`login_attempts.ends_at <= ${at}`;
  const counted = await sessionTables(em)
    .insertInto('login_attempts')
    .values({ bucket, attempts: 1, ends_at: rfc3339(now + windowMs) })
    .onConflict((on) =>
      on
        .column('bucket')
        .doUpdateSet({
          attempts: sql<number>`case when ${over} then 1 else login_attempts.attempts + 1 end`,
          ends_at: sql<string>`case when ${over} then excluded.ends_at else login_attempts.ends_at end`,
        })
        .where(sql<boolean>`${over} or login_attempts.attempts < ${attempts}`),
    )
    .returning('bucket')
    .executeTakeFirst();
  if (counted) return;
  const full = await sessionTables(em)
    .selectFrom('login_attempts')
    .select('ends_at')
    .where('bucket', '=', bucket)
    .executeTakeFirst();
  const left = full === undefined ? 0 : Date.parse(full.ends_at) - now;
  throw new Rejected('rate_limit_exceeded', 'Too many attempts: wait as long as retry-after says.', {
    retryAfter: Math.max(1, left / 1_000),
  });
}

/** After a success: an account begins anew, an address gets this one attempt back. */
export async function forgiveAttempts(em: EntityManager, email: string, address: string): Promise<void> {
  const db = sessionTables(em);
  await db.deleteFrom('login_attempts').where('bucket', '=', bucketOf('account', email)).execute();
  await db
    .updateTable('login_attempts')
    .set({ attempts: sql`login_attempts.attempts - 1` })
    .where('bucket', '=', bucketOf('address', address))
    .where('attempts', '>', 0)
    .execute();
}

export async function forgetOldAttempts(em: EntityManager, now: number): Promise<void> {
  await sessionTables(em).deleteFrom('login_attempts').where('ends_at', '<=', rfc3339(now)).execute();
}

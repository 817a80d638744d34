import type { EntityManager } from '@mikro-orm/postgresql';
import { memberTables, type Person } from './tables.js';

/** The person with this email, made if there is none; it can't be erased before the transaction ends. */
export async function ensurePerson(
  em: EntityManager,
  person: Pick<Person, 'person_id' | 'email' | 'name' | 'created_at'>,
): Promise<Person> {
  const db = memberTables(em);
  const nothing = { password_hash: null, oidc_issuer: null, oidc_subject: null };
  for (;;) {
    await db
      .insertInto('persons')
      .values({ ...person, ...nothing })
      .onConflict((on) => on.column('email').doNothing())
      .execute();
    const row = await db
      .selectFrom('persons')
      .selectAll()
      .where('email', '=', person.email)
      .forShare()
      .executeTakeFirst();
    // Erased in between: made anew.
    if (row) return row;
  }
}

export function findPersonByEmail(em: EntityManager, email: string): Promise<Person | undefined> {
  return memberTables(em).selectFrom('persons').selectAll().where('email', '=', email).executeTakeFirst();
}

export function findPersonByIdentity(em: EntityManager, issuer: string, subject: string): Promise<Person | undefined> {
  return memberTables(em)
    .selectFrom('persons')
    .selectAll()
    .where('oidc_issuer', '=', issuer)
    .where('oidc_subject', '=', subject)
    .executeTakeFirst();
}

export function findPerson(em: EntityManager, personId: string): Promise<Person | undefined> {
  return memberTables(em).selectFrom('persons').selectAll().where('person_id', '=', personId).executeTakeFirst();
}

/** Whoever changes how a person signs in, or signs it in, holds this to the end of the transaction. */
export function lockPerson(em: EntityManager, personId: string): Promise<Person | undefined> {
  return memberTables(em)
    .selectFrom('persons')
    .selectAll()
    .where('person_id', '=', personId)
    .forUpdate()
    .executeTakeFirst();
}

export async function changePerson(
  em: EntityManager,
  personId: string,
  change: Partial<Omit<Person, 'person_id' | 'created_at'>>,
): Promise<void> {
  if (Object.keys(change).length === 0) return;
  await memberTables(em).updateTable('persons').set(change).where('person_id', '=', personId).execute();
}

/** The person is nobody from here on: what refers to its id finds nothing. */
export async function erasePerson(em: EntityManager, personId: string): Promise<void> {
  await memberTables(em).deleteFrom('persons').where('person_id', '=', personId).execute();
}

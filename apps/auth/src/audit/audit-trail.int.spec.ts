import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { addressDigest, type AuditEntry } from '@sluice/contracts/audit';
import { withBacking } from '@sluice/testing';
import { auditDatabase, faultOf, someone } from './audit-database.fixture.js';
import { eraseAddresses } from './audit-trail.store.js';
import { SYSTEM_ORGANIZATION } from './entry.js';
import { auditTables } from './tables.js';

const backing = withBacking(['postgres']);
let database: Awaited<ReturnType<typeof auditDatabase>>;
beforeAll(async () => {
  database = await auditDatabase((await backing.database('audit')).url);
});
afterAll(async () => database?.orm.close(true));

const entriesOf = async (organizationId: string) =>
  (await database.chain(organizationId)).map(({ entry }) => JSON.parse(entry) as AuditEntry);
const addressesOf = (organizationId: string) =>
  auditTables(database.orm.em.fork())
    .selectFrom('audit_addresses')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .orderBy('seq')
    .execute();

describe('the audit trail', () => {
  it('has one entry per stored event: who, what, on which request, what changed, and no secret', async () => {
    const actor = someone('o-entry');
    await database.make(actor, { stream: '1' });
    expect(await entriesOf('o-entry')).toEqual([
      {
        at: expect.any(String),
        actor: 'management:mk-1',
        action: 'thing.made',
        target: 'thing:1',
        requestId: actor.requestId,
        changes: { organizationId: 'o-entry', note: 'n' },
        addressDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    ]);
    expect(JSON.stringify(await database.chain('o-entry'))).not.toContain('never to be seen');
  });

  it('stays one contiguous chain when 50 commands of one organization commit at once', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, i) => database.make(someone('o-50'), { note: `${i}` })));
    const chain = await database.chain('o-50');
    expect(chain).toHaveLength(50);
    expect(faultOf(chain)).toBeUndefined();
    const head = await auditTables(database.orm.em.fork())
      .selectFrom('audit_heads')
      .selectAll()
      .where('organization_id', '=', 'o-50')
      .executeTakeFirstOrThrow();
    expect(head).toEqual({ organization_id: 'o-50', seq: '50', hash: chain.at(-1)!.hash });
  });

  it('lets nobody wait for ever: transactions over the same things in opposite order', async () => {
    const bulk = (organizations: readonly string[]) =>
      database.orm.em.fork().transactional(async (em) => {
        for (const organization of organizations)
          for (let i = 0; i < 5; i++) await database.make(someone(organization), { em });
      });
    const rounds = Array.from({ length: 10 }, (_, i) => bulk(i % 2 === 0 ? ['o-a', 'o-b'] : ['o-b', 'o-a']));
    // A deadlock is noticed by PostgreSQL, which refuses one of them.
    await Promise.all(rounds);
    for (const organization of ['o-a', 'o-b']) {
      const chain = await database.chain(organization);
      expect([chain.length, faultOf(chain)]).toEqual([50, undefined]);
    }
  });

  it('has nothing of what was rolled back, and no gap for it', async () => {
    const failed = database.orm.em.fork().transactional(async (em) => {
      await database.make(someone('o-back'), { em });
      throw new Error('changed my mind');
    });
    await expect(failed).rejects.toThrow('changed my mind');
    await database.make(someone('o-back'), { note: 'stays' });
    const chain = await database.chain('o-back');
    expect([chain.length, faultOf(chain)]).toEqual([1, undefined]);
  });

  it('is append-only: nobody edits it by a mistake at a console', async () => {
    await database.make(someone('o-only'));
    for (const statement of [
      'update audit_entries set entry = entry',
      'delete from audit_entries',
      'truncate audit_entries',
    ])
      await expect(database.orm.em.fork().execute(statement)).rejects.toThrow('append-only');
  });

  it('is not of the organization of the canaries', async () => {
    await database.make(someone(null, { kind: 'operator' }), { organizationId: SYSTEM_ORGANIZATION });
    expect(await database.chain(SYSTEM_ORGANIZATION)).toEqual([]);
  });

  it('keeps addresses apart: a person’s are erased and the chain still verifies', async () => {
    const ofMember = (memberId: string) =>
      someone('o-erase', { kind: 'session', keyId: 's1', memberId, role: 'admin', address: '198.51.100.9' });
    await database.make(ofMember('m1'));
    await database.make(ofMember('m2'));
    await database.make(ofMember('m1'));
    const [first] = await addressesOf('o-erase');
    expect(addressDigest(first!.salt, first!.address)).toBe((await entriesOf('o-erase'))[0]!.addressDigest);

    await database.orm.em.fork().transactional(async (em) => {
      // Its last act may be to ask for it.
      await database.make(ofMember('m1'), { em });
      await eraseAddresses(em, 'm1');
    });
    expect((await addressesOf('o-erase')).map(({ seq, member_id }) => [seq, member_id])).toEqual([['2', 'm2']]);
    const chain = await database.chain('o-erase');
    expect([chain.length, faultOf(chain)]).toEqual([4, undefined]);
    expect(JSON.stringify(chain)).not.toContain('198.51.100.9');
  });
});

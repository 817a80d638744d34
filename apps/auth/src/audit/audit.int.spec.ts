import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { auditHash, canonicalJson } from '@sluice/contracts/audit';
import { withBacking } from '@sluice/testing';
import { auditApp } from './audit-app.fixture.js';
import { auditDatabase, faultOf, someone } from './audit-database.fixture.js';
import type { ShownEntry } from './audit-query.js';

const backing = withBacking(['postgres']);
let database: Awaited<ReturnType<typeof auditDatabase>>;
let app: Awaited<ReturnType<typeof auditApp>>;
beforeAll(async () => {
  database = await auditDatabase((await backing.database('audit')).url);
  app = await auditApp(database.orm.em);
});
afterAll(async () => {
  await app?.close();
  await database?.orm.close(true);
});

interface Page {
  readonly data: readonly ShownEntry[];
  readonly nextCursor: string | null;
}
const reader = (organizationId: string) => someone(organizationId);
const notesOf = (page: readonly ShownEntry[]) => page.map(({ changes }) => changes['note']);

describe('GET /api/audit', () => {
  it('200: newest first, page by page, with the address and the place in the chain', async () => {
    for (const note of ['a', 'b', 'c']) await database.make(someone('o-list'), { note });
    const first = await app.call<Page>('GET', '/api/audit?limit=2', { as: reader('o-list') });
    expect(first.status).toBe(200);
    expect(notesOf(first.body.data)).toEqual(['c', 'b']);
    expect(first.body.data[0]).toMatchObject({ seq: 3, actor: 'management:mk-1', address: '192.0.2.7' });
    const rest = await app.call<Page>('GET', `/api/audit?cursor=${first.body.nextCursor}`, { as: reader('o-list') });
    expect([notesOf(rest.body.data), rest.body.nextCursor]).toEqual([['a'], null]);
  });

  it('200: by actor (a member with all its sessions), action, target and time', async () => {
    const member = (keyId: string, memberId = 'm1') => someone('o-find', { kind: 'session', keyId, memberId });
    await database.make(member('s1'), { note: 'one', stream: 't1' });
    await database.make(member('s2'), { note: 'two' });
    await database.make(member('s3', 'm10'), { note: 'other' });
    const find = async (query: string) =>
      notesOf((await app.call<Page>('GET', `/api/audit?${query}`, { as: reader('o-find') })).body.data);
    expect(await find('actor=member:m1')).toEqual(['two', 'one']);
    expect(await find('actor=member:m1/s1')).toEqual(['one']);
    expect(await find('target=thing:t1')).toEqual(['one']);
    expect(await find('action=thing.made')).toHaveLength(3);
    expect(await find('action=thing.unmade')).toEqual([]);
    const soon = encodeURIComponent(new Date(Date.now() + 60_000).toISOString());
    expect(await find(`from=${soon}`)).toEqual([]);
    expect(await find(`to=${soon}`)).toHaveLength(3);
    // The same instant elsewhere on earth.
    expect(await find(`from=${encodeURIComponent('2000-01-01T02:00:00+02:00')}`)).toHaveLength(3);
  });

  it('shows an organization its own entries and no others', async () => {
    await database.make(someone('o-mine'), { note: 'mine' });
    await database.make(someone('o-yours'), { note: 'yours' });
    const { body } = await app.call<Page>('GET', '/api/audit', { as: reader('o-mine') });
    expect(notesOf(body.data)).toEqual(['mine']);
  });

  it('400: names the parameter that is wrong', async () => {
    for (const [query, param] of [
      ['limit=0', 'limit'],
      ['limit=1001', 'limit'],
      ['cursor=x', 'cursor'],
      ['from=yesterday', 'from'],
      [`actor=${'x'.repeat(513)}`, 'actor'],
      ['actr=x', 'actr'],
      ['actor=x&actor=y', 'actor'],
    ]) {
      const { status, body } = await app.call('GET', `/api/audit?${query}`, { as: reader('o-list') });
      expect([status, body.error.code, body.error.param]).toEqual([400, 'invalid_request', param]);
    }
  });

  it('401 without a service token or an actor, 403 for another service, an operator, a key of one project', async () => {
    const codes = await Promise.all([
      app.call('GET', '/api/audit', { by: 'nobody' }),
      app.call('GET', '/api/audit'),
      app.call('GET', '/api/audit', { by: 'billing' }),
      app.call('GET', '/api/audit', { as: someone(null, { kind: 'operator' }) }),
      app.call('GET', '/api/audit', { as: someone('o-list', { project: 'p' }) }),
      app.call('GET', '/api/audit/export', { as: someone('o-list', { project: 'p' }) }),
      app.call('GET', '/api/operator/audit', { as: reader('o-list') }),
    ]);
    expect(codes.map(({ status, body }) => [status, body.error.code])).toEqual([
      [401, 'invalid_service_token'],
      [401, 'invalid_service_token'],
      [403, 'scope_insufficient'],
      [403, 'wrong_credential_type'],
      [403, 'project_scope_mismatch'],
      [403, 'project_scope_mismatch'],
      [403, 'scope_insufficient'],
    ]);
  });
});

describe('GET /api/audit/export', () => {
  it('200: a chain that verifies by what is in the file, in parts behind each other', async () => {
    for (let i = 0; i < 5; i++) await database.make(someone('o-export'), { note: `${i}` });
    const file = await app.call('GET', '/api/audit/export', { as: reader('o-export') });
    expect(file.status).toBe(200);
    expect(file.headers['content-type']).toBe('application/jsonl; charset=utf-8');
    expect(file.headers['link']).toBeUndefined();
    const lines = file.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as ShownEntry);
    const chain = lines.map(({ seq, previousHash, hash, address: _address, ...entry }) => ({
      organizationId: 'o-export',
      seq,
      previousHash,
      hash,
      entry: canonicalJson(entry),
    }));
    expect([chain.length, faultOf(chain)]).toEqual([5, undefined]);
    expect(auditHash(chain[4]!)).toBe(lines[4]!.hash);
    const rest = await app.call('GET', '/api/audit/export?after=3', { as: reader('o-export') });
    expect(rest.text).toBe(file.text.split('\n').slice(3).join('\n'));
  });

  it('200: CSV that a spreadsheet opens and never runs', async () => {
    const evil = someone('o-csv', { keyId: '"; x' });
    await database.make(evil, { note: '=1+1' });
    await app.call('POST', '/internal/audit', {
      as: evil,
      body: { action: '=HYPERLINK("x")', target: '+1', fields: {} },
    });
    const { text, headers } = await app.call('GET', '/api/audit/export?format=csv', { as: reader('o-csv') });
    expect(headers['content-type']).toBe('text/csv; charset=utf-8');
    const [head, one, two] = text.split('\r\n');
    expect(head).toBe('seq,at,actor,action,target,requestId,address,addressDigest,changes,previousHash,hash');
    expect(one).toContain('"management:""; x"');
    expect(two).toContain(`"'=HYPERLINK(""x"")","'+1"`);
    expect((await app.call('GET', '/api/audit/export?format=csv&after=2', { as: reader('o-csv') })).text).toBe('');
  });

  it('says where the next part is, with the same filters, when an answer would be too long', async () => {
    const note = 'x'.repeat(12_000);
    await database.orm.em.fork().transactional(async (em) => {
      for (let i = 0; i < 401; i++) await database.make(someone('o-long'), { em, note });
    });
    const path = '/api/audit/export?action=thing.made';
    const first = await app.call('GET', path, { as: reader('o-long') });
    expect(first.headers['link']).toBe('</api/audit/export?action=thing.made&after=400>; rel="next"');
    const next = await app.call('GET', `${path}&after=400`, { as: reader('o-long') });
    expect([next.text.trim().split('\n').length, next.headers['link']]).toEqual([1, undefined]);
  });

  it('400 for a format that is not there', async () => {
    const { status, body } = await app.call('GET', '/api/audit/export?format=xml', { as: reader('o-csv') });
    expect([status, body.error.param]).toEqual([400, 'format']);
  });
});

describe('POST /internal/audit', () => {
  const command = { action: 'POST /api/operator/credits', target: '/api/operator/credits', fields: { amount: '10' } };
  const operator = someone(null, { kind: 'operator', keyId: 'op-1' });

  it('204: a command of another service and its outcome stand in the platform’s chain, for operators to read', async () => {
    expect((await app.call('POST', '/internal/audit', { as: operator, body: command })).status).toBe(204);
    const outcome = { ...command, fields: {}, status: 201 };
    expect((await app.call('POST', '/internal/audit', { as: operator, body: outcome })).status).toBe(204);
    const { body } = await app.call<Page>('GET', '/api/operator/audit', { as: operator });
    expect(body.data.map(({ actor, action, changes, requestId }) => ({ actor, action, changes, requestId }))).toEqual(
      [{ status: 201 }, { amount: '10' }].map((changes) => ({
        actor: 'operator:op-1',
        action: 'POST /api/operator/credits',
        changes,
        requestId: operator.requestId,
      })),
    );
    expect(faultOf(await database.chain(''))).toBeUndefined();
  });

  it('in the chain of its organization when an organization’s credential gave it', async () => {
    await app.call('POST', '/internal/audit', { as: someone('o-cmd'), body: command });
    expect(await database.chain('o-cmd')).toHaveLength(1);
  });

  it('400, 413: what can’t be recorded as it is is refused, so that it is not forwarded', async () => {
    const send = async (body: unknown) => {
      const answer = await app.call('POST', '/internal/audit', { as: operator, body });
      return [answer.status, answer.body.error.param];
    };
    expect(await send({ ...command, fields: { reason: 'x'.repeat(17_000) } })).toEqual([413, undefined]);
    expect(await send({ ...command, fields: { reason: 'a\u0000b' } })).toEqual([400, undefined]);
    expect(await send({ ...command, action: '' })).toEqual([400, 'action']);
    expect(await send({ ...command, target: 'x'.repeat(513) })).toEqual([400, 'target']);
    expect(await send({ ...command, status: 99 })).toEqual([400, 'status']);
    expect(await send({ ...command, more: 1 })).toEqual([400, 'more']);
  });

  it('401 without an actor, 403 for a service that does not speak for one', async () => {
    expect((await app.call('POST', '/internal/audit', { body: command })).status).toBe(401);
    expect((await app.call('POST', '/internal/audit', { by: 'billing', body: command })).status).toBe(403);
  });
});

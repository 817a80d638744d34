import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { AuthProcess, operator } from '../prove/audit/auth.ts';
import { readHeads } from '../prove/audit/heads.ts';
import { program } from '../prove/audit.ts';
import type { Verdict } from '../prove/runner/program.ts';
import { randomFrom } from '../prove/runner/random.ts';
import { eventually, newFolder } from '../stack.ts';

const backing = withBacking(['postgres']);
const dir = newFolder('audit-spec-');
const heads = join(dir, 'heads.jsonl');
let url: string;
let auth: AuthProcess;
beforeAll(async () => {
  url = (await backing.database('audit')).url;
  auth = await AuthProcess.start(url, dir, heads);
});
afterAll(async () => {
  await auth?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const run = (values: Record<string, string>): Promise<Verdict> =>
  program.run({ values, random: randomFrom(1), say: () => {}, stopping: new AbortController().signal });
const reached = ({ goals }: Verdict) => Object.values(goals).every(({ ok }) => ok);

describe('npm run prove -- audit', () => {
  it('finds the audit of a running auth whole, and one altered row in it', async () => {
    for (const name of ['one', 'two'])
      await auth.call(operator('192.0.2.1'), 'POST', '/api/operator/organizations', { name });
    await auth.restart();
    await eventually(async () => (await readHeads(heads)).exports >= 2);
    expect(reached(await run({ database: url, heads }))).toBe(true);

    const client = new Client({ connectionString: url });
    await client.connect();
    await client.query('alter table audit_entries disable trigger audit_is_append_only');
    await client.query(
      `update audit_entries set entry = replace(entry, '"name":"two"', '"name":"tow"') where action = 'organization.created'`,
    );
    await client.end();
    const verdict = await run({ database: url, heads });
    expect(verdict.goals['whole']).toMatchObject({ ok: false });
    expect(verdict.figures['faults']).toBe(1);
  });

  it('finds every way of tampering, and would not find a rewritten chain without the exported heads', async () => {
    const verdict = await run({ organizations: '2', commands: '8' });
    expect(verdict.goals['tampering']).toMatchObject({ value: [] });
    expect(reached(verdict)).toBe(true);
  });
});

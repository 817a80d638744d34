// npm run prove -- audit: every chain of the audit follows, and no tampering with the database goes unseen.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { freshDatabase, startBacking } from '@sluice/testing';
import { Client } from 'pg';
import { eventually, newFolder } from '../stack.ts';
import { AuthProcess, manager, operator } from './audit/auth.ts';
import { readHeads } from './audit/heads.ts';
import { TAMPERINGS } from './audit/tampering.ts';
import { verify, type Found } from './audit/verify.ts';
import { UsageError, wholeNumber, type Goal, type Program, type Run, type Verdict } from './runner/program.ts';

export const program: Program = {
  about: 'the audit chains are whole, and a row that is altered, removed or rewritten is found',
  options: {
    database: { type: 'string' },
    heads: { type: 'string' },
    organizations: { type: 'string' },
    commands: { type: 'string' },
  },
  usage: `  --database URL     verify this database of auth and change nothing; with --heads. Without both: a database of its
                     own, commands to a real auth, and every way of tampering that it must find
  --heads FILE       what auth has exported to AUDIT_HEADS_FILE
  --organizations N  of the proof's own database (3)
  --commands N       per organization, at once (40)
`,
  run: async (run) => {
    const { database, heads } = run.values;
    if (typeof database === 'string' && typeof heads === 'string') return verifyLive(database, heads, run);
    if (database !== undefined || heads !== undefined)
      throw new UsageError('--database and --heads go together: without the heads a rewritten chain is not found');
    return proveOnItsOwn(run);
  },
};

async function verifyLive(database: string, headsFile: string, run: Run): Promise<Verdict> {
  if (!existsSync(headsFile)) throw new UsageError(`there is no file ${headsFile}`);
  // The heads first: chains only grow.
  const exported = await readHeads(headsFile);
  const found = await connected(database, async (client) => {
    await client.query('begin isolation level repeatable read read only');
    return verify(client, exported.heads);
  });
  tell(found, run);
  return {
    figures: { ...figures(found), exports: exported.exports, unreadable: exported.unreadable },
    goals: { whole: whole(found), exported: exportedSome(exported.heads.length) },
  };
}

async function proveOnItsOwn(run: Run): Promise<Verdict> {
  const organizations = wholeNumber('organizations', run.values['organizations'] ?? '3', 1, 1_000);
  const commands = wholeNumber('commands', run.values['commands'] ?? '40', 4, 10_000);
  const dir = newFolder('audit-');
  const backing = await startBacking({ dir: join(dir, 'backing'), need: ['postgres'], prefer: 'local' });
  let auth: AuthProcess | undefined;
  try {
    const { url } = await freshDatabase(backing, 'audit');
    const headsFile = join(dir, 'heads', 'audit-heads.jsonl');
    auth = await AuthProcess.start(url, dir, headsFile);
    const ids = await work(auth, organizations, commands, run);
    await auth.restart();
    const exported = await eventually(async () => {
      const read = existsSync(headsFile) ? await readHeads(headsFile) : undefined;
      // One export at each start.
      return read !== undefined && read.exports >= 2 && read;
    });
    // What came after the export is verified by the chain alone.
    for (const [id, key] of ids)
      await auth.call(manager(id, key, '192.0.2.1'), 'POST', '/api/projects', { slug: 'later' });
    return await connected(url, async (client) => {
      const found = await verify(client, exported.heads);
      tell(found, run);
      const events = await client.query<{ count: string }>('select count(*) from events');
      const goals: Record<string, Goal> = {
        whole: whole(found),
        exported: exportedSome(exported.heads.length),
        everyEvent: {
          goal: 'one entry per event and recorded command',
          value: found.entries,
          ok: found.entries === Number(events.rows[0]!.count) + organizations,
        },
        tampering: await tamper(client, exported.heads, ids, run),
      };
      return { figures: { ...figures(found), exports: exported.exports }, goals };
    });
  } finally {
    await auth?.stop();
    await backing.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Organizations with their first key, and commands at once in each. */
async function work(auth: AuthProcess, organizations: number, commands: number, run: Run) {
  const ids = new Map<string, string>();
  const began = performance.now();
  for (let i = 0; i < organizations; i++) {
    const made = await auth.call<{ id: string; managementKey: { id: string } }>(
      operator('198.51.100.1'),
      'POST',
      '/api/operator/organizations',
      { name: `Organization ${i}` },
    );
    ids.set(made.id, made.managementKey.id);
    // As the gateway does it for a command of billing.
    await auth.call(operator('198.51.100.1'), 'POST', '/internal/audit', {
      action: 'POST /api/operator/credits',
      target: '/api/operator/credits',
      fields: { organizationId: made.id, amount: '10' },
    });
  }
  const all = Array.from(ids).flatMap(([id, key]) =>
    Array.from({ length: commands }, (_, i) => async () => {
      const actor = manager(id, key, `192.0.2.${Math.floor(run.random.between(2, 255))}`);
      await auth.call(actor, 'POST', '/api/keys/management', { name: `key ${i}` });
    }),
  );
  const keysBegan = performance.now();
  await Promise.all(all.map((command) => command()));
  const perSecond = Math.round((all.length * 1000) / (performance.now() - keysBegan));
  run.say(
    `${organizations} organizations, ${all.length} keys at ${perSecond}/s in ${Math.round(performance.now() - began)} ms`,
  );
  return ids;
}

/** Each way of tampering in a transaction of its own, which is rolled back: triggers off, as a superuser can. */
async function tamper(
  client: Client,
  exported: Parameters<typeof verify>[1],
  ids: ReadonlyMap<string, string>,
  run: Run,
): Promise<Goal> {
  const unseen: string[] = [];
  for (const { name, onlyByHeads, apply } of TAMPERINGS) {
    const organizationId = run.random.pick([...ids.keys()]);
    const last = Math.max(...exported.filter((head) => head.organizationId === organizationId).map(({ seq }) => seq));
    const place = { organizationId, seq: Math.floor(run.random.between(2, last)) };
    await client.query('begin');
    await client.query('set local session_replication_role = replica');
    await apply(client, place);
    const alone = await verify(client, []);
    const { faults } = await verify(client, exported);
    await client.query('rollback');
    const seen =
      faults.some((fault) => fault.startsWith(organizationId)) && (alone.faults.length === 0) === onlyByHeads;
    if (!seen) unseen.push(name);
    run.say(`${seen ? '✓' : '✗'} entry ${place.seq} of ${last}, ${name}: ${faults[0] ?? 'nothing found'}`);
  }
  return { goal: 'each way of tampering is found', value: unseen, ok: unseen.length === 0 };
}

async function connected<T>(connectionString: string, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString, connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

const figures = ({ faults, ...found }: Found) => ({ ...found, faults: faults.length });
const whole = ({ faults }: Found): Goal => ({ goal: 'no fault', value: faults, ok: faults.length === 0 });
const exportedSome = (heads: number): Goal => ({ goal: 'at least one exported head', value: heads, ok: heads > 0 });

function tell({ chains, entries, heads, addresses, faults }: Found, run: Run): void {
  run.say(`${chains} chains with ${entries} entries, ${heads} exported heads met, ${addresses} addresses`);
  for (const fault of faults) run.say(`✗ ${fault}`);
}

import { appendFile, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { auditHeadLineSchema } from '@sluice/contracts/audit';
import { systemClock } from '@sluice/primitives/clock';
import { withBacking } from '@sluice/testing';
import { register } from 'prom-client';
import { auditDatabase, someone } from './audit-database.fixture.js';
import { AuditHeads } from './audit-heads.service.js';
import { AuditStore } from './audit.store.js';

const backing = withBacking(['postgres']);
let database: Awaited<ReturnType<typeof auditDatabase>>;
let folder: string;
let file: string;
beforeAll(async () => {
  database = await auditDatabase((await backing.database('audit')).url);
  for (const organization of ['o1', 'o2', 'o1']) await database.make(someone(organization));
  folder = await mkdtemp(join(tmpdir(), 'audit-'));
  file = join(folder, 'not', 'there', 'yet', 'heads.jsonl');
});
afterAll(async () => {
  await database?.orm.close(true);
  if (folder) await rm(folder, { recursive: true });
});
beforeEach(() => register.clear());

/** A start of auth, and its end once the heads are exported. */
async function startAndStop(to: string | undefined = file): Promise<number> {
  const heads = new AuditHeads(new AuditStore(database.orm.em, systemClock), systemClock, to);
  heads.onApplicationBootstrap();
  await heads.onApplicationShutdown();
  const gauge = await register.getSingleMetric('auth_audit_heads_exported_timestamp_seconds')!.get();
  return gauge.values[0]!.value;
}
const lines = async () => (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '');

describe('the heads of the audit chains', () => {
  it('are exported at a start, each with its number and hash, for their owner only, and the time is a metric', async () => {
    const at = await startAndStop();
    expect(Math.abs(at - Date.now() / 1000)).toBeLessThan(60);
    const [one, two, end, ...more] = (await lines()).map((line) => auditHeadLineSchema.parse(JSON.parse(line)));
    const hash = (await database.chain('o1')).at(-1)!.hash;
    expect(one).toMatchObject({ organizationId: 'o1', seq: 2, hash });
    expect(two).toMatchObject({ organizationId: 'o2', seq: 1 });
    expect([end, more]).toEqual([{ at: one!.at, chains: 2 }, []]);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it('are appended to what was exported before, also behind a line that a killed process left half written', async () => {
    const before = await readFile(file, 'utf8');
    await appendFile(file, '{"at":"2026');
    await database.make(someone('o2'));
    await startAndStop();
    const after = await readFile(file, 'utf8');
    expect(after.startsWith(`${before}{"at":"2026\n`)).toBe(true);
    expect(JSON.parse((await lines()).at(-2)!)).toMatchObject({ organizationId: 'o2', seq: 2 });
  });

  it('that can’t be written do not stop auth: the metric says that they are not there', async () => {
    expect(await startAndStop(folder)).toBeNaN();
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import type { FreshDatabase } from './fresh-database.js';
import { withBacking } from './with-backing.js';

const backing = withBacking(['postgres', 'redis']);
const own = withBacking(['redis'], { own: true });

describe('a suite with backing services', () => {
  let database: FreshDatabase;
  let client: Client;

  beforeAll(async () => {
    database = await backing.database('suite');
    client = new Client({ connectionString: database.url });
    await client.connect();
  });

  afterAll(() => client.end());

  it('has servers and an empty database of its own', async () => {
    const { rows } = await client.query(
      'select current_database() as name, (select count(*)::int from pg_stat_user_tables) as tables',
    );
    expect(rows).toEqual([{ name: database.name, tables: 0 }]);
  });

  it('may stop servers that are its own, and they are not those of the other suites', async () => {
    expect(own().redis.port).not.toBe(backing().redis.port);
    await own().redis.stop();
    await own().redis.start();
  });
});

// Written last, so jest runs it last; the servers must be there still. A failure here fails the suite.
afterAll(async () => {
  const client = new Client({ connectionString: backing().postgres.url });
  await client.connect();
  const { rowCount } = await client.query("select 1 from pg_database where datname like 'suite\\_%'");
  await client.end();
  expect(rowCount).toBeGreaterThan(0);
});

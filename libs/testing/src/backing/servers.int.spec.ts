// Both kinds of servers, for real, under the same expectations.
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import { enterable, serverAccount } from './account.js';
import type { Backing, BackingOptions } from './backing.js';
import { dockerWay } from './docker.js';
import { freshDatabase } from './fresh-database.js';
import { localWay } from './local.js';
import { dropBacking, startBacking } from './start-backing.js';
import { stateDir } from './workspace.js';

const NEED = ['postgres', 'nats', 'redis'] as const;
const LONG = 300_000;

async function query(url: string, sql: string): Promise<unknown> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    return (await client.query<{ value: unknown }>(sql)).rows[0]?.value;
  } finally {
    await client.end();
  }
}

/** Says lines to a server and gives what it answered until `until` matched. */
function say(port: number, lines: string, until: RegExp): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let heard = '';
  const socket = connect({ host: '127.0.0.1', port, timeout: 60_000 }, () => socket.write(lines));
  socket.on('data', (data) => {
    heard += data.toString();
    if (until.test(heard)) resolve(heard);
  });
  socket.on('error', reject);
  socket.on('close', () => reject(new Error(`closed after: ${heard}`)));
  socket.on('timeout', () => reject(new Error(`silent after: ${heard}`)));
  return promise.finally(() => socket.destroy());
}

const redis = ({ redis }: Backing, command: string, until: RegExp): Promise<string> =>
  say(redis.port, `AUTH ${new URL(redis.url).password}\r\n${command}\r\n`, until);

/** One request over core NATS, JetStream's API among them. */
function jetstream({ nats }: Backing, subject: string, payload: string): Promise<string> {
  const { username, password } = new URL(nats.url);
  const hello = `CONNECT ${JSON.stringify({ user: username, pass: password, verbose: false })}\r\nSUB inbox 1\r\n`;
  return say(
    nats.port,
    `${hello}PUB ${subject} inbox ${payload.length}\r\n${payload}\r\n`,
    /MSG inbox 1 +\d+\r\n\{.*\}\r\n/,
  );
}

const alone = { ...process.env, SLUICE_POSTGRES_URL: '', SLUICE_NATS_URL: '', SLUICE_REDIS_URL: '' };
const ways = { local: localWay, docker: dockerWay };

for (const kind of ['local', 'docker'] as const) {
  const probe = await ways[kind](NEED, { dir: stateDir, need: NEED, env: alone });
  const described = 'why' in probe ? describe.skip : describe;

  described(`backing services of the kind ${kind}`, () => {
    const dir = join(stateDir, 'test', `servers-${kind}-${process.pid}`);
    const options: BackingOptions = { dir, need: NEED, keep: true, env: { ...alone, BACKING: kind } };
    let backing: Backing;

    beforeAll(async () => {
      backing = await startBacking(options);
    }, LONG);
    afterAll(async () => {
      await backing.stop();
      await dropBacking(dir);
    }, LONG);

    it('are the servers that were asked for, PostgreSQL of the supported version', async () => {
      expect(backing.kind).toBe(kind);
      expect(await query(backing.postgres.url, "select current_setting('server_version') as value")).toMatch(/^17\./);
      expect(await query(backing.postgres.url, "select current_setting('fsync') as value")).toBe('on');
      expect(await redis(backing, 'INFO server', /redis_version:/)).toMatch(/redis_version:[78]\./);
    });

    it('let nobody in without the generated passwords', async () => {
      const stranger = new URL(backing.postgres.url);
      stranger.password = 'guess';
      await expect(query(stranger.href, 'select 1 as value')).rejects.toThrow(/password authentication failed/);
      await expect(say(backing.redis.port, 'PING\r\n', /\r\n/)).resolves.toMatch(/NOAUTH/);
      await expect(say(backing.nats.port, 'CONNECT {}\r\nPING\r\n', /-ERR/)).resolves.toMatch(
        /Authorization Violation/,
      );
    });

    it('are not reachable from other machines', async () => {
      const address = Object.values(networkInterfaces())
        .flat()
        .find((face) => face && !face.internal && face.family === 'IPv4')?.address;
      for (const { port } of address ? NEED.map((name) => backing[name]) : []) {
        const { promise, resolve } = Promise.withResolvers<string>();
        const socket = connect({ host: address!, port, timeout: 1_000 }, () => resolve('connected'));
        socket.on('error', () => resolve('refused')).on('timeout', () => resolve('refused'));
        expect(await promise).toBe('refused');
        socket.destroy();
      }
    });

    it(
      'come back from a stop on the same port with what they had',
      async () => {
        await query(backing.postgres.url, 'create table kept as select 42 as value');
        await redis(backing, 'SET kept 42', /\+OK\r\n\+OK/);
        await jetstream(
          backing,
          '$JS.API.STREAM.CREATE.KEPT',
          JSON.stringify({ name: 'KEPT', subjects: ['kept'], storage: 'file' }),
        );
        expect(await jetstream(backing, 'kept', '42')).toMatch(/"seq":\s?1/);

        for (const name of NEED) {
          await backing[name].stop();
          await expect(say(backing[name].port, '\r\n', /./)).rejects.toThrow();
          await backing[name].start();
        }
        expect(await query(backing.postgres.url, 'select value from kept')).toBe(42);
        expect(await redis(backing, 'GET kept', /42/)).toMatch(/\$2\r\n42/);
        expect(await jetstream(backing, '$JS.API.STREAM.INFO.KEPT', '')).toMatch(/"messages":\s?1/);
      },
      LONG,
    );

    it(
      'come back from a kill with what was durable',
      async () => {
        for (const name of NEED) {
          await backing[name].kill();
          await backing[name].start();
        }
        expect(await query(backing.postgres.url, 'select value from kept')).toBe(42);
        expect(await jetstream(backing, '$JS.API.STREAM.INFO.KEPT', '')).toMatch(/"messages":\s?1/);
      },
      LONG,
    );

    it(
      'with keep are the same data in the next run',
      async () => {
        await backing.stop();
        backing = await startBacking(options);
        expect(await query(backing.postgres.url, 'select value from kept')).toBe(42);
      },
      LONG,
    );

    it('keep one folder to one run', async () => {
      await expect(startBacking(options)).rejects.toThrow(`process ${process.pid} runs backing services`);
    });

    it('keep their passwords from other users', () => {
      const file = join(enterable(dir, serverAccount()), 'secrets.json');
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(readFileSync(file, 'utf8')).toContain(backing.postgres.password);
    });

    it('give a suite a database of its own, and take it back with sessions still on it', async () => {
      const database = await freshDatabase(backing, 'Odd name; drop');
      const session = new Client({ connectionString: database.url });
      session.on('error', () => {});
      await session.connect();
      await database.drop();
      await database.drop();
      expect(
        await query(
          backing.postgres.url,
          `select count(*)::int as value from pg_database where datname = '${database.name}'`,
        ),
      ).toBe(0);
      await session.end().catch(() => {});
    });

    it(
      'take a nats configuration with its own users',
      async () => {
        const { writeFileSync } = await import('node:fs');
        const folder = mkdtempSync(join(stateDir, 'test', 'nats-config-'));
        const natsConfig = join(folder, 'users.conf');
        writeFileSync(natsConfig, 'authorization { users: [ { user: team, password: "pw" } ] }\n');
        const other = await startBacking({
          dir: join(folder, 'backing'),
          need: ['nats'],
          natsConfig,
          env: { ...alone, BACKING: kind },
        });
        try {
          expect(new URL(other.nats.url).username).toBe('');
          expect(await say(other.nats.port, 'CONNECT {"user":"team","pass":"pw"}\r\nPING\r\n', /PONG|-ERR/)).toMatch(
            /PONG/,
          );
          expect(await say(other.nats.port, 'CONNECT {"user":"sluice","pass":"pw"}\r\nPING\r\n', /PONG|-ERR/)).toMatch(
            /-ERR/,
          );
        } finally {
          await other.stop();
          rmSync(folder, { recursive: true, force: true });
        }
      },
      LONG,
    );
  });
}

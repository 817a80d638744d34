import { setTimeout as sleep } from 'node:timers/promises';
import type { AnyEntity, EntityClass, EntitySchema, MigrationObject } from '@mikro-orm/core';
import { Migrator } from '@mikro-orm/migrations';
import { defineConfig, MikroORM, type Options } from '@mikro-orm/postgresql';
import { Client } from 'pg';
import { giveBackLostSlots } from './pool-slots.js';

const CONNECT_MS = 5_000;
/** The longest a statement may take before PostgreSQL ends it: no request waits longer for anything. */
const STATEMENT_MS = 15_000;
/** Above the longest time the relay holds a transaction open while it publishes. */
const IDLE_IN_TRANSACTION_MS = 60_000;
const MIGRATION_LOCK_MS = 120_000;
/** The advisory lock of migrations: any constant, the same in every replica. */
const MIGRATION_LOCK = '7310294411';

/**
 * The settings of every service's connection to its own database. Nothing connects before the first query.
 * @param entities with EVENT_STORE_ENTITIES or MESSAGING_ENTITIES among them
 * @param migrations in order, the library's first
 */
export function ormOptions(
  databaseUrl: string,
  entities: readonly (EntityClass<AnyEntity> | EntitySchema)[],
  migrations: readonly MigrationObject[],
  applicationName: string,
  { poolSize = 10, log = () => {} }: { poolSize?: number; log?: (message: string) => void } = {},
): Partial<Options> {
  return defineConfig({
    clientUrl: databaseUrl,
    entities: [...entities],
    extensions: [Migrator],
    // What MikroORM has to say (a connection that broke): by default nothing, as the query that failed says it too.
    logger: log,
    colors: false,
    // Generated files and introspection are for development; a service only runs what is listed.
    migrations: { migrationsList: [...migrations], snapshot: false, snapshotOnMigrate: false, silent: true },
    pool: { min: 0, max: poolSize, idleTimeoutMillis: 30_000 },
    driverOptions: {
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_MS,
      statement_timeout: STATEMENT_MS,
      // The server may be gone without a word: then its own timeout does not help.
      query_timeout: STATEMENT_MS + CONNECT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
      keepAlive: true,
      onPoolCreated: giveBackLostSlots,
    },
  });
}

export interface WaitOptions {
  /** Ends the waiting with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told about every failed attempt; log it. */
  readonly onRetry?: (error: unknown) => void;
}

/** Comes back when PostgreSQL answers queries; tries for ever, with back-off up to 2 s. */
export async function connectOrm(orm: MikroORM, { signal, onRetry }: WaitOptions = {}): Promise<void> {
  await untilItWorks(
    async () => {
      await orm.connect();
      const check = await orm.checkConnection();
      if (!check.ok) throw check.error ?? new Error(check.reason);
    },
    { ...(signal ? { signal } : {}), ...(onRetry ? { onRetry } : {}) },
  );
}

/**
 * Waits for PostgreSQL, then brings the schema to its newest shape. Replicas that start at the same time do it one
 * after the other, under an advisory lock; the later ones find nothing to do.
 * @param options what `ormOptions` gave
 * @returns the names of the migrations that were run
 */
export async function migrate(options: Partial<Options>, wait: WaitOptions = {}): Promise<readonly string[]> {
  const locker = await untilItWorks(async () => {
    const client = new Client({
      connectionString: options.clientUrl,
      connectionTimeoutMillis: CONNECT_MS,
      statement_timeout: MIGRATION_LOCK_MS,
      keepAlive: true,
    });
    // A connection that breaks later is noticed by the next query; without a listener it would end the process.
    client.on('error', () => {});
    await client.connect();
    return client;
  }, wait);
  try {
    await locker.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
    const orm = await MikroORM.init({
      ...options,
      driverOptions: { ...(options.driverOptions as object), statement_timeout: 0, query_timeout: 0 },
    });
    try {
      return (await orm.migrator.up()).map(({ name }) => name);
    } finally {
      await orm.close(true);
    }
  } finally {
    // Ends the session and with it the lock.
    await locker.end();
  }
}

async function untilItWorks<T>(attempt: () => Promise<T>, { signal, onRetry }: WaitOptions): Promise<T> {
  for (let delay = 100; ; delay = Math.min(delay * 2, 2_000)) {
    signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      onRetry?.(error);
      await sleep(delay / 2 + Math.random() * (delay / 2), undefined, signal ? { signal } : {});
    }
  }
}

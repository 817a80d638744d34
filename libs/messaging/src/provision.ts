import { setTimeout as sleep } from 'node:timers/promises';
import {
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  RetentionPolicy,
  StorageType,
  type JetStreamManager,
  type StreamConfig,
} from '@nats-io/jetstream';
import { errors, nanos } from '@nats-io/transport-node';
import type { StreamDefinition } from '@sluice/contracts/subjects';
import { backoff } from './backoff.js';
import { NotConnected, type Link } from './link.js';

export interface ProvisionOptions {
  /** Copies of each stream: 1 on one machine, 3 in a cluster. */
  readonly replicas?: number;
  /** Milliseconds after which it gives up while JetStream is not up. @default 60_000 */
  readonly timeoutMs?: number;
  /** Only make what is missing; a service mends a loss, it does not change what is there. */
  readonly createOnly?: boolean;
}

/** A stream is not what the contracts say, or the server dropped a setting it does not know. */
export class StreamMismatch extends Error {
  override readonly name = 'StreamMismatch';
  readonly remediation =
    'Run the provisioning step with the admin user; if it says the same again, the server is too old for this setting.';
  constructor(stream: string, differences: readonly string[]) {
    super(`stream ${stream} is not as provisioned: ${differences.join('; ')}`);
  }
}

type Settings = Pick<
  StreamConfig,
  | 'name'
  | 'subjects'
  | 'retention'
  | 'storage'
  | 'discard'
  | 'max_age'
  | 'max_bytes'
  | 'max_msgs_per_subject'
  | 'deny_delete'
  | 'deny_purge'
  | 'duplicate_window'
>;

const settings = (definition: StreamDefinition): Settings => ({
  name: definition.name,
  subjects: [...definition.subjects],
  retention: RetentionPolicy.Limits,
  storage: StorageType.File,
  discard: definition.discard === 'new' ? DiscardPolicy.New : DiscardPolicy.Old,
  max_age: nanos(definition.maxAge),
  max_bytes: definition.maxBytes,
  max_msgs_per_subject: definition.maxMessagesPerSubject ?? -1,
  deny_delete: definition.denyDelete ?? false,
  deny_purge: definition.denyPurge ?? false,
  duplicate_window: nanos(definition.duplicateWindow),
});

export async function provisionStreams(
  link: Link,
  streams: readonly StreamDefinition[],
  { replicas = 1, timeoutMs = 60_000, createOnly = false }: ProvisionOptions,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (const definition of streams) {
    await retry(deadline, async () => {
      await link.whenConnected(Math.max(1, deadline - performance.now()));
      await provisionOne(await link.manager(), definition, replicas, createOnly);
    });
  }
}

export async function verifyStreams(link: Link, streams: readonly StreamDefinition[]): Promise<void> {
  const manager = await link.manager();
  for (const definition of streams) await verify(manager, definition);
}

async function provisionOne(
  manager: JetStreamManager,
  definition: StreamDefinition,
  replicas: number,
  createOnly: boolean,
): Promise<void> {
  const wanted = settings(definition);
  const existing = await infoOf(manager, definition.name);
  if (!existing) {
    await manager.streams.add({ ...wanted, num_replicas: replicas });
  } else if (!createOnly) {
    const differs = differences(wanted, existing).length > 0 || existing.num_replicas !== replicas;
    if (differs) await manager.streams.update(definition.name, { ...wanted, num_replicas: replicas });
    for (const consumer of definition.retiredConsumers ?? []) await removeConsumer(manager, definition.name, consumer);
  }
  await verify(manager, definition);
}

async function removeConsumer(manager: JetStreamManager, stream: string, consumer: string): Promise<void> {
  try {
    await manager.consumers.delete(stream, consumer);
  } catch (error) {
    if (!(error instanceof JetStreamApiError) || error.code !== JetStreamApiCodes.ConsumerNotFound) throw error;
  }
}

async function infoOf(manager: JetStreamManager, name: string): Promise<StreamConfig | undefined> {
  try {
    return (await manager.streams.info(name)).config;
  } catch (error) {
    if (isStreamNotFound(error)) return undefined;
    throw error;
  }
}

async function verify(manager: JetStreamManager, definition: StreamDefinition): Promise<void> {
  const { config } = await manager.streams.info(definition.name);
  const found = differences(settings(definition), config);
  if (found.length > 0) throw new StreamMismatch(definition.name, found);
}

function differences(wanted: Settings, actual: StreamConfig): string[] {
  return Object.entries(wanted).flatMap(([key, value]) => {
    // The server leaves out what is false.
    const found = actual[key as keyof Settings] ?? false;
    return JSON.stringify(found) === JSON.stringify(value)
      ? []
      : [`${key} is ${JSON.stringify(found)} instead of ${JSON.stringify(value)}`];
  });
}

export const isStreamNotFound = (error: unknown): boolean =>
  error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound;

/** No leader yet, or not enough servers in sight. */
const NOT_YET = new Set([10008, 10009, 10004, 10005, 10023]);

function mayGoBetter(error: unknown): boolean {
  if (error instanceof JetStreamApiError) return NOT_YET.has(error.code);
  return (
    error instanceof NotConnected ||
    error instanceof errors.TimeoutError ||
    error instanceof errors.RequestError ||
    (error instanceof Error && error.name === 'JetStreamNotEnabled')
  );
}

async function retry(deadline: number, attempt: () => Promise<void>): Promise<void> {
  for (let failures = 1; ; failures += 1) {
    try {
      await attempt();
      return;
    } catch (error) {
      const pause = backoff(failures, 100, 2_000, Math.random());
      if (!mayGoBetter(error) || performance.now() + pause > deadline) throw error;
      await sleep(pause);
    }
  }
}

import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { loggerFor } from '@sluice/service-kit';
import { KeyRow } from '../keys/key.entity.js';
import type { KeysService } from '../keys/keys.service.js';
import { SuspensionWorkRow } from './organization.entity.js';

const EVERY_MS = 1_000;
const BATCH = 200;

/**
 * Tells every key of a suspended or resumed organization, so that others hear `key.revoked` and `key.reactivated` of
 * each. Nothing waits for it: the organization's own invalidation put the suspension in force. Starts again where it
 * ended; telling a key twice changes nothing.
 */
@Injectable()
export class SuspensionWorker implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('suspension');
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;

  constructor(
    private readonly em: EntityManager,
    private readonly keys: Pick<KeysService, 'setSuspended'>,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.running ??= this.work()
        .catch((err: unknown) => this.log.warn({ err }, 'keys of a suspended organization wait to be told'))
        .finally(() => (this.running = undefined));
    }, EVERY_MS);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.running;
  }

  /** Does what there is to do. */
  async work(): Promise<void> {
    while (await this.batch());
  }

  /** One batch of one organization. False: nothing is left, or others are at it. */
  private async batch(): Promise<boolean> {
    const em = this.em.fork();
    const [work] = await em.find(SuspensionWorkRow, {}, { limit: 1, orderBy: { organizationId: 'asc' } });
    if (!work) return false;
    const { organizationId, suspended, causationId, correlationId, afterKey } = work;
    const keys = await em.find(
      KeyRow,
      { organizationId, keyId: { $gt: afterKey } },
      { fields: ['keyId'], orderBy: { keyId: 'asc' }, limit: BATCH },
    );
    const ids = keys.map(({ keyId }) => keyId);
    if (ids.length > 0) {
      await this.keys.setSuspended(ids, suspended, { actor: 'system:suspension', correlationId, causationId });
    }
    // Only if it is still the same work: a newer suspension or end of it begins from the start.
    const same = { organizationId, causationId };
    if (ids.length < BATCH) await em.nativeDelete(SuspensionWorkRow, same);
    else await em.nativeUpdate(SuspensionWorkRow, same, { afterKey: ids.at(-1)! });
    return true;
  }
}

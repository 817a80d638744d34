import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { keyIssuedV1, keyUpdatedV1 } from '@sluice/contracts/auth';
import { Poison } from '@sluice/messaging';
import type { z } from 'zod';
import { StatementsStore } from './statements.store.js';

const BACKOFF = { maxDeliveries: Infinity, backoffMs: { min: 250, max: 10_000 } };

/** Tags of keys: a copy, a moment late; auth owns them. */
@Controller()
export class KeyTagsConsumer {
  constructor(private readonly statements: StatementsStore) {}

  @EventPattern('evt.auth.key.issued.v1.>', { stream: 'EVT_AUTH', durable: 'billing-keys', ...BACKOFF })
  async issued(@Payload() message: unknown): Promise<void> {
    await this.keep(keyIssuedV1, message);
  }

  @EventPattern('evt.auth.key.updated.v1.>', { stream: 'EVT_AUTH', durable: 'billing-key-updates', ...BACKOFF })
  async updated(@Payload() message: unknown): Promise<void> {
    await this.keep(keyUpdatedV1, message);
  }

  private async keep(schema: typeof keyIssuedV1 | typeof keyUpdatedV1, message: unknown): Promise<void> {
    const event: z.ZodSafeParseResult<z.infer<typeof schema>> = schema.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { keyId, organizationId, tags } = event.data.data;
    if (tags !== undefined) await this.statements.keepTags(keyId, organizationId, tags, event.data.time);
  }
}

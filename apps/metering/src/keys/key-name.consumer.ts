import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { keyIssuedV1, keyUpdatedV1 } from '@sluice/contracts/auth';
import { Poison } from '@sluice/messaging';
import type { z } from 'zod';
import { KeyNames } from './key-names.store.js';

/** Names and tags of keys: a copy, a moment late; auth owns them. */
@Controller()
export class KeyNameConsumer {
  constructor(private readonly names: KeyNames) {}

  @EventPattern('evt.auth.key.issued.v1.>', { stream: 'EVT_AUTH', durable: 'metering-keys', maxDeliveries: Infinity })
  async issued(@Payload() message: unknown): Promise<void> {
    await this.keep(keyIssuedV1, message);
  }

  @EventPattern('evt.auth.key.updated.v1.>', {
    stream: 'EVT_AUTH',
    durable: 'metering-key-updates',
    maxDeliveries: Infinity,
  })
  async updated(@Payload() message: unknown): Promise<void> {
    await this.keep(keyUpdatedV1, message);
  }

  private async keep(schema: typeof keyIssuedV1 | typeof keyUpdatedV1, message: unknown): Promise<void> {
    const event: z.ZodSafeParseResult<z.infer<typeof schema>> = schema.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { keyId, organizationId, name, tags } = event.data.data;
    await this.names.keep({ keyId, organizationId, name, tags, at: event.data.time });
  }
}

import { MikroORM } from '@mikro-orm/postgresql';
import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { lookupRequestSchema, type Credential } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, parse } from '@sluice/service-kit';
import { requireRegistered } from '../gateways/membership.service.js';
import { findSession } from '../sessions/sessions.store.js';
import { credentialOfKey } from './credential.js';
import { presentedKey } from './keys.store.js';

/** Where gateways ask for credentials: one indexed read of the primary. */
@Controller('internal/lookups')
@AllowServices('gateway')
export class LookupsController {
  constructor(private readonly orm: MikroORM) {}

  @Post()
  @HttpCode(200)
  async find(@Body() body: unknown): Promise<{ credential: Credential }> {
    const { boot, digest } = parse(lookupRequestSchema, body);
    const em = this.orm.em.fork();
    // The membership first: who is not registered would not hear of the key's end.
    await requireRegistered(em, boot);
    const presented = await presentedKey(em, digest);
    if (presented !== undefined) return { credential: credentialOfKey(presented, systemClock.now()) };
    const session = await findSession(em, digest);
    if (session === undefined) throw new Rejected('invalid_api_key');
    if (Date.parse(session.expiresAt!) <= systemClock.now()) throw new Rejected('api_key_expired');
    return { credential: session };
  }
}

import { MikroORM } from '@mikro-orm/postgresql';
import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { lookupRequestSchema, type Credential } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, parse } from '@sluice/service-kit';
import { GatewayRow } from '../gateways/gateway.entity.js';
import { credentialOfKey } from './credential.js';
import { KeysService } from './keys.service.js';

/** A gateway's look-ups are noted at most this often. */
const NOTE_EVERY_MS = 1_000;

/** Where gateways ask for credentials: one indexed read of the primary. */
@Controller('internal/lookups')
@AllowServices('gateway')
export class LookupsController {
  private readonly notedAt = new Map<string, number>();

  constructor(
    private readonly keys: KeysService,
    private readonly orm: MikroORM,
  ) {}

  @Post()
  @HttpCode(200)
  async find(@Body() body: unknown): Promise<{ credential: Credential }> {
    const { boot, digest } = parse(lookupRequestSchema, body);
    // The membership first: who is not registered would not hear of the key's end.
    await this.requireRegistered(boot);
    const presented = await this.keys.findByDigest(digest);
    if (presented === undefined) throw new Rejected('invalid_api_key');
    return { credential: credentialOfKey(presented, systemClock.now()) };
  }

  private async requireRegistered(boot: string): Promise<void> {
    const em = this.orm.em.fork();
    const gateway = await em.findOne(GatewayRow, { boot, retiredAt: null });
    if (!gateway) throw new Rejected('unknown_gateway');
    const now = systemClock.monotonic();
    if (now - (this.notedAt.get(boot) ?? -Infinity) < NOTE_EVERY_MS) return;
    this.notedAt.set(boot, now);
    await em.nativeUpdate(GatewayRow, { boot, retiredAt: null }, { lastLookupAt: new Date(systemClock.now()) });
  }
}

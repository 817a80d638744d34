import { createHash } from 'node:crypto';
import { MikroORM } from '@mikro-orm/postgresql';
import { Body, Controller, HttpCode, Post, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, parse } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import type { Reached } from '../gateways/in-force.service.js';
import { sendReached } from '../gateways/reached-answer.js';
import { countAttempt } from '../sessions/login-limits.store.js';
import { SessionsService } from '../sessions/sessions.service.js';
import { KeysService } from './keys.service.js';

const reportSchema = z.strictObject({ secret: z.string().min(1).max(200) });

/**
 * `/api/keys/report-leak`: whoever found a secret can end it, without a login: they could use it anyway. Nothing that is
 * said of a refused report has the secret in it.
 */
@Controller('api/keys/report-leak')
@AllowServices('gateway')
export class LeakReportsController {
  constructor(
    private readonly orm: MikroORM,
    private readonly keys: KeysService,
    private readonly sessions: SessionsService,
  ) {}

  @Post()
  @HttpCode(200)
  async report(@ManagementActor() actor: Actor, @Body() body: unknown, @Res() reply: FastifyReply) {
    const { secret } = parse(reportSchema, body);
    if (!this.keys.isSecret(secret)) {
      throw new Rejected('invalid_request', 'secret: is not a secret of this platform.', { param: 'secret' });
    }
    const now = systemClock.now();
    await countAttempt(this.orm.em.fork(), 'leak-report', actor.address, now);
    const digest = createHash('sha256').update(secret).digest('base64url');
    const reached = (await this.endKey(actor, digest, now)) ?? (await this.sessions.endLeaked(actor, digest));
    if (reached === undefined) throw new Rejected('not_found', 'No credential has this secret.');
    return sendReached(reply, { reported: true }, reached);
  }

  /** A secret whose grace is over opens nothing: it is no reason to end the key. */
  private async endKey(actor: Actor, digest: string, now: number): Promise<Reached | undefined> {
    const presented = await this.keys.findByDigest(digest);
    if (!presented || (presented.until !== null && presented.until.getTime() <= now)) return undefined;
    return this.keys.revoke(actor, presented.key, 'leaked');
  }
}

import { Body, Controller, Get, HttpCode, Post, Put, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, ok, parse } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { sendReached } from '../gateways/reached-answer.js';
import { OidcService } from './oidc.service.js';
import { SessionsService } from './sessions.service.js';
import {
  acceptSchema,
  changePasswordSchema,
  loginSchema,
  oidcFinishSchema,
  oidcStartSchema,
} from './sign-in-requests.js';
import { SignInService } from './sign-in.service.js';

/** `/api/auth`: to a session, out of it, and who I am. */
@Controller('api/auth')
@AllowServices('gateway')
export class AuthController {
  constructor(
    private readonly signIn: SignInService,
    private readonly sessions: SessionsService,
    private readonly oidc: OidcService,
  ) {}

  @Post('login')
  @HttpCode(200)
  async login(@ManagementActor() actor: Actor, @Body() body: unknown) {
    return ok(await this.signIn.login(actor, parse(loginSchema, body)));
  }

  @Post('accept')
  @HttpCode(200)
  async accept(@ManagementActor() actor: Actor, @Body() body: unknown) {
    return ok(await this.signIn.accept(actor, parse(acceptSchema, body)));
  }

  @Post('oidc/start')
  @HttpCode(200)
  async oidcStart(@ManagementActor() actor: Actor, @Body() body: unknown) {
    this.oidc.requireConfigured();
    return ok(await this.oidc.start(actor, parse(oidcStartSchema, body ?? {})));
  }

  @Post('oidc/finish')
  @HttpCode(200)
  async oidcFinish(@ManagementActor() actor: Actor, @Body() body: unknown) {
    this.oidc.requireConfigured();
    return ok(await this.oidc.finish(actor, parse(oidcFinishSchema, body)));
  }

  @Post('logout')
  async logout(@ManagementActor() actor: Actor, @Res() reply: FastifyReply) {
    if (actor.kind !== 'session')
      throw new Rejected('wrong_credential_type', 'Only the session of a signed-in member ends by a logout.');
    return sendReached(reply, { loggedOut: true }, await this.sessions.logout(actor));
  }

  @Get('me')
  async me(@ManagementActor() actor: Actor) {
    const { kind, keyId: id, organizationId, project, scopes } = actor;
    if (kind === 'operator') return ok({ kind, id });
    if (kind === 'management') return ok({ kind, id, organizationId, project, scopes });
    const { member, person } = await this.signIn.whoIs(actor);
    const { email, name } = person;
    return ok({ kind, id, member: { id: member.member_id, role: member.role, organizationId, email, name } });
  }

  @Put('password')
  async changePassword(@ManagementActor() actor: Actor, @Body() body: unknown, @Res() reply: FastifyReply) {
    const request = parse(changePasswordSchema, body);
    return sendReached(reply, { changed: true }, await this.signIn.changePassword(actor, request));
  }
}

import { Body, Controller, Delete, Get, Headers, HttpCode, Param, Post, Put, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { rfc3339 } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { sendReached } from '../gateways/reached-answer.js';
import { idempotencyKeySchema } from '../keys/key-requests.js';
import { changeRoleSchema, inviteSchema, memberPageSchema } from './member-requests.js';
import { MembersService, type Invited } from './members.service.js';

/** `/api/members`: who may act for the actor's organization. */
@Controller('api/members')
@AllowServices('gateway')
export class MembersController {
  constructor(private readonly members: MembersService) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const { limit, cursor } = parse(memberPageSchema, query, 'query');
    const page = { limit: limit + 1, after: cursor };
    const rows = await this.members.list(requireOrganization(actor), page);
    const data = rows.slice(0, limit).map((row) => ({
      id: row.member_id,
      email: row.email,
      // What a person is called elsewhere is not this organization's to see before it has joined.
      name: row.status === 'active' ? row.name : null,
      role: row.role,
      status: row.status,
      invitedAt: instant(row.invited_at),
      invitationExpiresAt: instant(row.invitation_expires_at),
      joinedAt: instant(row.joined_at),
    }));
    return ok(data, { nextCursor: rows.length > limit ? data.at(-1)!.id : null });
  }

  /** There is no mailer: whoever invites sends the token on, and the person uses it at `POST /api/auth/accept`. */
  @Post()
  @HttpCode(201)
  async invite(@ManagementActor() actor: Actor, @Body() body: unknown, @Headers('idempotency-key') header?: string) {
    const request = parse(inviteSchema, body);
    const idempotency = parse(idempotencyKeySchema, header, 'header');
    const invited = await this.members.invite(actor, requireOrganization(actor), request, idempotency);
    const { memberId: id, role, status } = invited;
    return ok({ id, email: request.email, role, status, invitation: invitationOnce(invited) });
  }

  @Put(':id')
  async changeRole(
    @ManagementActor() actor: Actor,
    @Param('id') text: string,
    @Body() body: unknown,
    @Res() reply: FastifyReply,
  ) {
    const id = memberId(text);
    const { role } = parse(changeRoleSchema, body);
    const reached = await this.members.changeRole(actor, requireOrganization(actor), id, role);
    return sendReached(reply, { id, role }, reached);
  }

  @Delete(':id')
  async remove(@ManagementActor() actor: Actor, @Param('id') text: string, @Res() reply: FastifyReply) {
    const reached = await this.members.remove(actor, requireOrganization(actor), memberId(text));
    return sendReached(reply, { deleted: true }, reached);
  }

  @Post(':id/erase')
  @HttpCode(200)
  async erase(@ManagementActor() actor: Actor, @Param('id') text: string, @Res() reply: FastifyReply) {
    const { erased, reached } = await this.members.erase(actor, requireOrganization(actor), memberId(text));
    const why = erased ? {} : { reason: 'member_of_another_organization' };
    return sendReached(reply, { deleted: true, erased, ...why }, reached);
  }
}

/** An invitation as its answer shows it: the token in the first one only. */
export const invitationOnce = ({ token, expiresAt }: Pick<Invited, 'token' | 'expiresAt'>) =>
  token === undefined ? { token: null, secretReturned: false, expiresAt } : { token, expiresAt };

const memberId = (text: string): string => parse(z.uuid(), text, 'path');

const instant = (time: string | null): string | null => (time === null ? null : rfc3339(Date.parse(time)));

import { Body, Controller, Delete, Get, Headers, HttpCode, Param, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { AllowServices, ManagementActor, ok, parse, requireOperator } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { sendReached } from '../gateways/reached-answer.js';
import { secretOnce } from '../keys/key-answers.js';
import { idempotencyKeySchema } from '../keys/key-requests.js';
import { KeysService } from '../keys/keys.service.js';

const createSchema = z.strictObject({ name: z.string().trim().min(1).max(80) });
const pageSchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(1_000),
  cursor: z.uuid().optional(),
});

/** `/api/operator/credentials`: the platform's own credentials, which belong to no organization. */
@Controller('api/operator/credentials')
@AllowServices('gateway')
export class OperatorCredentialsController {
  constructor(private readonly keys: KeysService) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireOperator(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const rows = await this.keys.list(null, ['operator'], null, { limit: limit + 1, after: cursor });
    const data = rows.slice(0, limit).map(({ keyId, name, keyPrefix, status, issuedAt }) => ({
      id: keyId,
      name,
      keyPrefix,
      isActive: status === 'active',
      createdAt: issuedAt.toISOString(),
    }));
    return ok(data, { nextCursor: rows.length > limit ? data.at(-1)!.id : null });
  }

  @Post()
  @HttpCode(201)
  async create(@ManagementActor() actor: Actor, @Body() body: unknown, @Headers('idempotency-key') header?: string) {
    requireOperator(actor);
    const { name } = parse(createSchema, body);
    const issued = await this.keys.issueOperator(actor, { name }, parse(idempotencyKeySchema, header, 'header'));
    return ok({ ...secretOnce(issued), name, createdAt: issued.key.issuedAt.toISOString() });
  }

  /** One that the configuration names comes back with the next start as it is: ended. */
  @Delete(':id')
  async delete(@ManagementActor() actor: Actor, @Param('id') id: string, @Res() reply: FastifyReply) {
    requireOperator(actor);
    const key = await this.keys.get(null, parse(z.uuid(), id, 'path'), ['operator'], null);
    return sendReached(reply, { deleted: true }, await this.keys.revoke(actor, key, 'deleted', {}));
  }
}

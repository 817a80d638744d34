import { Readable } from 'node:stream';
import { Body, Controller, Get, HttpCode, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { auditedCommandSchema } from '@sluice/contracts/audit';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, ok, parse, requireOperator, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { CONTENT_TYPES, exportHead, exportLine, exportSchema, listSchema, type ShownEntry } from './audit-query.js';
import { AuditStore } from './audit.store.js';
import { PLATFORM } from './entry.js';

/** Beyond it a command is not recorded, so not forwarded. */
const MAX_FIELDS_CHARACTERS = 16_384;

/** What happened, newest first or as a whole; and where the gateway records what other services carry out. */
@Controller()
@AllowServices('gateway')
export class AuditController {
  constructor(private readonly audit: AuditStore) {}

  @Get('api/audit')
  list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    return this.page(organizationOf(actor), query);
  }

  @Get('api/operator/audit')
  listPlatform(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireOperator(actor);
    return this.page(PLATFORM, query);
  }

  /** Oldest first, so that the chain can be verified as it is read. A text that ends early breaks the connection. */
  @Get('api/audit/export')
  async export(@ManagementActor() actor: Actor, @Query() query: unknown, @Res() reply: FastifyReply): Promise<void> {
    const organizationId = organizationOf(actor);
    const { format, ...filters } = parse(exportSchema, query, 'query');
    const pages = this.audit.pages(organizationId, filters);
    // Before the status is said: if the database is away, the answer is an error and not an empty file.
    const first = await pages.next();
    async function* text(): AsyncGenerator<string> {
      yield exportHead(format);
      for (let page = first; page.done !== true; page = await pages.next())
        yield page.value.map((entry: ShownEntry) => exportLine(format, entry)).join('');
    }
    const headers = {
      'content-type': CONTENT_TYPES[format],
      'content-disposition': `attachment; filename="audit.${format}"`,
    };
    await reply.headers(headers).send(Readable.from(text()));
  }

  @Post('internal/audit')
  @HttpCode(204)
  async record(@ManagementActor() actor: Actor, @Body() body: unknown): Promise<void> {
    const command = parse(auditedCommandSchema, body);
    const fields = JSON.stringify(command.fields);
    if (fields.length > MAX_FIELDS_CHARACTERS)
      throw new Rejected('request_too_large', 'The audited fields are too long.');
    // PostgreSQL's texts can't hold it, and nobody means it.
    if (fields.includes('\\u0000')) throw new Rejected('invalid_request', 'A text holds the character U+0000.');
    await this.audit.record(actor, command);
  }

  private async page(organizationId: string, query: unknown) {
    const { limit, cursor, ...filters } = parse(listSchema, query, 'query');
    const entries = await this.audit.list(organizationId, filters, { limit: limit + 1, cursor });
    const data = entries.slice(0, limit);
    return ok(data, { nextCursor: entries.length > limit ? String(data.at(-1)!.seq) : null });
  }
}

/** @throws Rejected `project_scope_mismatch`: the audit is of the whole organization */
function organizationOf(actor: Actor): string {
  const organizationId = requireOrganization(actor);
  if (actor.project !== null) throw new Rejected('project_scope_mismatch', 'The audit is of the whole organization.');
  return organizationId;
}

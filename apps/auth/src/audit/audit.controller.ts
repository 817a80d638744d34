import { Body, Controller, Get, HttpCode, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { auditedCommandSchema } from '@sluice/contracts/audit';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, ok, parse, requireOperator, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { CONTENT_TYPES, exportHead, exportLine, exportSchema, listSchema } from './audit-query.js';
import { AuditStore } from './audit.store.js';
import { PLATFORM } from './entry.js';

/** Beyond it a command is not recorded, so not forwarded. */
const MAX_FIELDS_CHARACTERS = 16_384;
/** A part of an export ends when it has as many, give or take a page. */
const EXPORT_ENTRIES = 10_000;
const EXPORT_CHARACTERS = 4 * 1024 * 1024;
const PAGE = 200;

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

  /**
   * Oldest first, so that the chain can be verified as it is read. In parts, as no answer is longer than a service or the
   * gateway can hold, and each part is asked for with a credential that is alive; `link` says where the next one is.
   */
  @Get('api/audit/export')
  async export(
    @ManagementActor() actor: Actor,
    @Query() query: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<string> {
    const organizationId = organizationOf(actor);
    const { format, after: from, ...filters } = parse(exportSchema, query, 'query');
    let text = exportHead(format, from);
    let after = from;
    let more = true;
    for (let entries = 0; more && entries < EXPORT_ENTRIES && text.length < EXPORT_CHARACTERS; entries += PAGE) {
      const page = await this.audit.follow(organizationId, filters, { after, limit: PAGE });
      text += page.map((entry) => exportLine(format, entry)).join('');
      after = page.at(-1)?.seq ?? after;
      more = page.length === PAGE;
    }
    const next = new URLSearchParams({ ...(query as Record<string, string>), after: String(after) });
    void reply.headers({
      'content-type': CONTENT_TYPES[format],
      'content-disposition': `attachment; filename="audit.${format}"`,
      ...(more ? { link: `</api/audit/export?${next.toString()}>; rel="next"` } : {}),
    });
    return text;
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

import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, type Type } from '@nestjs/common';
import type { Actor, ServiceName } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { quarantineDropSchema, quarantineHashSchema, quarantinePageSchema } from '@sluice/contracts/quarantine';
import { AllowServices, ManagementActor, requireOperator } from './callers.guard.js';
import { ok, parse } from './respond.js';

/** Provides what `quarantineController` serves. */
export const QUARANTINE = Symbol('quarantine');

/** Records that were set aside; libs/event-store's Quarantine is one. */
interface Quarantine {
  page(
    limit: number,
    after?: string,
  ): Promise<{ readonly records: readonly object[]; readonly nextCursor: string | null }>;
  find(hash: string): Promise<object | undefined>;
  redrive(hash: string): Promise<object | undefined>;
  drop(hash: string, reason: string): Promise<boolean>;
}

/** For operators: records that a service set aside. They hold what customers did; nobody else sees them. */
export function quarantineController(service: ServiceName): Type {
  @Controller(`api/operator/quarantine/${service}`)
  @AllowServices('gateway')
  class QuarantineController {
    constructor(@Inject(QUARANTINE) private readonly quarantine: Quarantine) {}

    @Get()
    async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
      requireOperator(actor);
      const { limit, cursor } = parse(quarantinePageSchema, query, 'query');
      const { records, nextCursor } = await this.quarantine.page(limit, cursor);
      return ok(records, { nextCursor });
    }

    @Get(':hash')
    async show(@ManagementActor() actor: Actor, @Param('hash') hash: string) {
      requireOperator(actor);
      return ok(there(await this.quarantine.find(hashIn(hash))));
    }

    /** Safe to repeat: what is booked is booked once. */
    @Post(':hash/redrive')
    @HttpCode(200)
    async redrive(@ManagementActor() actor: Actor, @Param('hash') hash: string) {
      requireOperator(actor);
      return ok(there(await this.quarantine.redrive(hashIn(hash))));
    }

    @Post(':hash/drop')
    @HttpCode(200)
    async drop(@ManagementActor() actor: Actor, @Param('hash') hash: string, @Body() body: unknown) {
      requireOperator(actor);
      const { reason } = parse(quarantineDropSchema, body);
      there((await this.quarantine.drop(hashIn(hash), reason)) || undefined);
      return ok({ result: 'dropped' });
    }
  }
  return QuarantineController;
}

const hashIn = (text: string): string => parse(quarantineHashSchema, text, 'path');

function there<T>(found: T | undefined): T {
  if (found === undefined) throw new Rejected('not_found', 'No record of this hash waits in quarantine.');
  return found;
}

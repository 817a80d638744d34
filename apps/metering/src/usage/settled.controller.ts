import { EntityManager } from '@mikro-orm/postgresql';
import { Controller, Get, Param, Query } from '@nestjs/common';
import { settledQuestionSchema, type SettledResponse } from '@sluice/contracts/gateway';
import { askedBy } from '@sluice/event-store';
import { AllowServices, parse } from '@sluice/service-kit';
import { UsageStore } from './usage.store.js';

/** What a gateway asks before it forgets a part of its journal, and to learn what it has to publish again. */
@Controller('internal/usage/settled')
@AllowServices('gateway')
export class SettledController {
  constructor(
    private readonly usage: UsageStore,
    private readonly em: EntityManager,
  ) {}

  @Get(':boot')
  async settled(@Param('boot') boot: string, @Query() query: unknown): Promise<SettledResponse> {
    const { published, held } = parse(settledQuestionSchema, query, 'query');
    const told = published === undefined || held === undefined ? undefined : { published, held };
    const missing = await askedBy(this.em.fork(), boot, told);
    return { below: await this.usage.settledBelow(boot), missing };
  }
}

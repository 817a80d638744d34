import { Body, Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { AllowServices, ManagementActor, ok, parse, requireOperator } from '@sluice/service-kit';
import { pageSchema } from '../ledger/page.js';
import { requireWholeOrganization } from '../status/whole-organization.js';
import { makePoolSchema, type Pool } from './pool.js';
import { PoolsService, type PoolNow } from './pools.service.js';

@Controller('api/pools')
@AllowServices('gateway')
export class PoolsController {
  constructor(private readonly pools: PoolsService) {}

  /** What can be reserved, and how many seats of each block are free now: in the hour of it that has the fewest. */
  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireWholeOrganization(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const { pools, nextCursor } = await this.pools.page(limit, cursor);
    return ok(pools.map(forSale), { nextCursor });
  }
}

@Controller('api/operator/pools')
@AllowServices('gateway')
export class OperatorPoolsController {
  constructor(private readonly pools: PoolsService) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireOperator(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const { pools, nextCursor } = await this.pools.page(limit, cursor);
    return ok(
      pools.map(({ pool, taken }) => ({ ...shown(pool), taken })),
      { nextCursor },
    );
  }

  /** The same pool again answers with the one there is. */
  @Post()
  @HttpCode(200)
  async make(@ManagementActor() actor: Actor, @Body() body: unknown) {
    requireOperator(actor);
    return ok(shown(await this.pools.make(parse(makePoolSchema, body))));
  }
}

const base = ({ id, name, models, pricePerBlockHour }: Pool) => ({
  id,
  name,
  models,
  pricePerBlockHour: formatUsd(pricePerBlockHour),
  currency: 'USD' as const,
});

const forSale = ({ pool, taken }: PoolNow) => ({
  ...base(pool),
  blocks: pool.blocks.map(({ name, hours }) => ({
    name,
    hours,
    free: Math.min(...hours.map((hour) => pool.capacity[hour]! - taken[hour]!)),
  })),
});

const shown = (pool: Pool) => ({
  ...base(pool),
  capacity: pool.capacity,
  blocks: pool.blocks,
  createdAt: rfc3339(pool.createdAt),
});

import { Controller, Delete, Get, Post } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import type { ServedModels } from '@sluice/contracts/router';
import { rfc3339 } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, requireOperator } from '@sluice/service-kit';
import { WorkersService } from './workers.service.js';

const NOT_THERE =
  'Registering workers through the API is not there yet: workers announce themselves by heartbeat, or stand in WORKERS.';

@Controller('api/operator/workers')
@AllowServices('gateway')
export class WorkersController {
  constructor(private readonly workers: WorkersService) {}

  @Get()
  list(@ManagementActor() actor: Actor) {
    requireOperator(actor);
    return ok(
      this.workers
        .list()
        .map(({ lastSeen, ...worker }) => ({ ...worker, lastSeen: lastSeen === null ? null : rfc3339(lastSeen) })),
    );
  }

  @Post()
  register(@ManagementActor() actor: Actor): never {
    requireOperator(actor);
    throw new Rejected('not_implemented', NOT_THERE);
  }

  @Delete(':id')
  remove(@ManagementActor() actor: Actor): never {
    requireOperator(actor);
    throw new Rejected('not_implemented', NOT_THERE);
  }
}

/** What the gateway has to know of workers before it asks one. */
@Controller('internal/models')
@AllowServices('gateway')
export class ServedModelsController {
  constructor(private readonly workers: WorkersService) {}

  @Get()
  served(): ServedModels {
    return { models: this.workers.served() };
  }
}

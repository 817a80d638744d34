import { All, Controller } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices } from '@sluice/service-kit';

const rejected = (what: string, comes: string): never => {
  throw new Rejected('not_implemented', `${what}: ${comes}`);
};

/** Paths that are promised and not there yet, by name. */
@Controller('api')
@AllowServices('gateway')
export class NotThereYetController {
  @All('billing/topups')
  topups(): never {
    return rejected('/api/billing/topups', 'top-ups come with the payment provider; an operator can grant credit.');
  }

  @All(['pools', 'pools/*path', 'operator/pools', 'operator/pools/*path'])
  pools(): never {
    return rejected('Pools', 'reserved time blocks come later; use credit keys.');
  }

  @All(['subscriptions', 'subscriptions/*path'])
  subscriptions(): never {
    return rejected('Subscriptions', 'they come with the pools; use credit keys.');
  }
}

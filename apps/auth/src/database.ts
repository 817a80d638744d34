import { EVENT_STORE_ENTITIES, ormOptions } from '@sluice/event-store';
import { GatewayRow, PendingRow } from './gateways/gateway.entity.js';
import { KeyRow, KeySecretRow } from './keys/key.entity.js';
import { AUTH_MIGRATIONS } from './migrations/index.js';
import { OrganizationRow, ProjectRow, SuspensionWorkRow, WorkloadRow } from './organizations/organization.entity.js';

/** auth's own database: the event store and the read models. */
export const authDatabase = (url: string) =>
  ormOptions(
    url,
    [
      ...EVENT_STORE_ENTITIES,
      KeyRow,
      KeySecretRow,
      OrganizationRow,
      ProjectRow,
      WorkloadRow,
      SuspensionWorkRow,
      GatewayRow,
      PendingRow,
    ],
    AUTH_MIGRATIONS,
    'sluice-auth',
  );

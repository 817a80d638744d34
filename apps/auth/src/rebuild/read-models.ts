import type { EventCodec } from '@sluice/event-sourcing';
import type { InlineProjection } from '@sluice/event-store';
import { keyCodec } from '../keys/key.js';
import { projectKeys } from '../keys/keys.store.js';
import { memberCodec } from '../members/member.js';
import { projectMembers } from '../members/members.store.js';
import { organizationCodec } from '../organizations/organization.js';
import { projectOrganizations } from '../organizations/organizations.service.js';
import { sessionCodec } from '../sessions/session.js';
import { projectSessions } from '../sessions/sessions.store.js';
import type { ReadModel, Replayed } from './rebuild.store.js';

const replayed = <E>(prefix: string, codec: EventCodec<E>, project: InlineProjection<E>): Replayed => ({
  prefix,
  project: (em, { event, ...stored }) => project(em, [{ ...stored, event: codec.decode(event) }]),
});

/** Every kind of aggregate whose events are in auth's log. */
export const REPLAYED: readonly Replayed[] = [
  replayed('key-', keyCodec, projectKeys),
  replayed('organization-', organizationCodec, projectOrganizations),
  replayed('member-', memberCodec, projectMembers),
  replayed('session-', sessionCodec, projectSessions),
];

/** Every table that is made of events alone; the canary of the system organization is not. */
export const READ_MODELS: readonly ReadModel[] = [
  { table: 'api_keys', only: `t.organization_id is distinct from 'system'` },
  {
    table: 'key_secrets',
    only: `t.key_id not in (select key_id from public.api_keys where organization_id = 'system')`,
  },
  { table: 'organizations' },
  { table: 'projects' },
  { table: 'workloads' },
  { table: 'members' },
  { table: 'sessions' },
];

import { z } from 'zod';
import { roleSchema, scopeSchema } from './auth.js';

/** Who a management command comes from, as the gateway found it; signed, short-lived, one audience. */
export const actorSchema = z.object({
  /** `anonymous`: a path that takes no credential (login, a leak report); everything else but the last two is then null. */
  kind: z.enum(['management', 'session', 'operator', 'anonymous']),
  /** Id of the key or session; empty for `anonymous`. */
  keyId: z.string(),
  /** Of a session. */
  memberId: z.string().nullable(),
  role: roleSchema.nullable(),
  /** Of a management key: what it makes is never wider. */
  scopes: z.array(scopeSchema),
  organizationId: z.string().nullable(),
  /** A management key bound to one project; null = the whole organization. */
  project: z.string().nullable(),
  requestId: z.string(),
  address: z.string(),
});
export type Actor = z.infer<typeof actorSchema>;

export const SERVICES = ['auth', 'gateway', 'metering', 'billing', 'router'] as const;
export type ServiceName = (typeof SERVICES)[number];

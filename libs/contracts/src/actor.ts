import { z } from 'zod';

/** Who a management command comes from, as the gateway found it; signed, short-lived, one audience. */
export const actorSchema = z.object({
  kind: z.enum(['management', 'operator']),
  keyId: z.string(),
  organizationId: z.string().nullable(),
  /** A management key bound to one project; null = the whole organization. */
  project: z.string().nullable(),
  requestId: z.string(),
  address: z.string(),
});
export type Actor = z.infer<typeof actorSchema>;

export const SERVICES = ['auth', 'gateway', 'metering', 'billing', 'router'] as const;
export type ServiceName = (typeof SERVICES)[number];

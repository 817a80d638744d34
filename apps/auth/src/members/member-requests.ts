import { roleSchema } from '@sluice/contracts/auth';
import { z } from 'zod';

/** Compared and stored in lower case. */
export const emailSchema = z.string().trim().toLowerCase().max(254).pipe(z.email());
export const personNameSchema = z.string().trim().min(1).max(80);

export const inviteSchema = z.strictObject({ email: emailSchema, role: roleSchema, name: personNameSchema.optional() });
export type InviteRequest = z.infer<typeof inviteSchema>;
/** Whom the operator makes the first owner. */
export const ownerSchema = z.strictObject({ email: emailSchema, name: personNameSchema.optional() });
export const changeRoleSchema = z.strictObject({ role: roleSchema });
export const memberPageSchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(1_000),
  cursor: z.uuid().optional(),
});

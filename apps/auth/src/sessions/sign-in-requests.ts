import { z } from 'zod';
import { emailSchema, personNameSchema } from '../members/member-requests.js';

/** No rules of composition: length is what makes a password hard to guess, and long ones are cheap to refuse. */
const newPasswordSchema = z.string().min(12).max(256);
/** One that is compared: a wrong length is a wrong password, and says no more. */
const passwordSchema = z.string().min(1).max(256);
const organizationIdSchema = z.string().min(1).max(64);
/** Both an invitation's token and the state of a sign-in: 32 random bytes. */
const tokenSchema = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be the 43 characters that were given');

export const loginSchema = z.strictObject({
  email: emailSchema,
  password: passwordSchema,
  organizationId: organizationIdSchema.optional(),
});
export type LoginRequest = z.infer<typeof loginSchema>;

export const acceptSchema = z.strictObject({
  token: tokenSchema,
  password: newPasswordSchema,
  name: personNameSchema.optional(),
});
export type AcceptRequest = z.infer<typeof acceptSchema>;

export const changePasswordSchema = z.strictObject({ current: passwordSchema, next: newPasswordSchema });
export type ChangePasswordRequest = z.infer<typeof changePasswordSchema>;

export const oidcStartSchema = z.strictObject({ organizationId: organizationIdSchema.optional() });

export const oidcFinishSchema = z.strictObject({
  /** As the start gave it, kept by the browser that started: a callback of somebody else's sign-in has another one. */
  state: tokenSchema,
  /** The URL that the provider sent the browser to, or what its query says. */
  callback: z.union([
    z.url({ protocol: /^https?$/ }).max(8_192),
    z.strictObject({
      code: z.string().min(1).max(4_096),
      state: z.string().min(1).max(256),
      iss: z.url().max(1_024).optional(),
    }),
  ]),
});
export type OidcFinishRequest = z.infer<typeof oidcFinishSchema>;

import { scopeSchema, type Scope } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { z } from 'zod';

const accessPattern = z
  .string()
  .max(130)
  .regex(/^[a-z0-9][a-z0-9-]{0,62}\/(\*|[a-z0-9][a-z0-9-]{0,62})$/, 'must be <project>/<workload> or <project>/*');

const name = z.string().trim().min(1).max(80);

/** Settings that are part of the product and not enforced yet: refused by name rather than kept and ignored. */
const NOT_YET = ['maxBudget', 'tpm', 'concurrency', 'priority', 'ipAllow'] as const;

export const creditKeySchema = z.strictObject({
  name,
  description: z.string().max(500).nullish(),
  tags: z.array(z.string().min(1).max(40)).max(20).optional(),
  scopes: z.array(scopeSchema).min(1).max(4).optional(),
  access: z.array(accessPattern).min(1).max(100).optional(),
  models: z.array(z.string().min(1).max(256)).min(1).max(100).nullish(),
  rpm: z.number().int().min(1).max(10_000_000).optional(),
  expiresAt: z.union([z.iso.datetime({ offset: true }), z.iso.date()]).nullish(),
  expires_in_days: z.number().int().min(1).max(3650).optional(),
});
export type CreditKeyRequest = z.infer<typeof creditKeySchema>;

/** The header of a write that may be repeated. */
export const idempotencyKeySchema = z.string().min(1).max(255).optional();

export const managementKeySchema = z.strictObject({ name, project: z.string().max(63).optional() });

/** @throws Rejected `not_implemented` naming the first setting that is not there yet */
export function refuseNotYet(body: unknown): void {
  if (typeof body !== 'object' || body === null) return;
  const asked = NOT_YET.find((field) => field in body && (body as Record<string, unknown>)[field] != null);
  if (asked) throw new Rejected('not_implemented', `${asked} is not implemented yet.`, { param: asked });
}

const DEFAULT_SCOPES: readonly Scope[] = ['inference:read', 'inference:write'];
const DEFAULT_RPM = 60;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The settings of a new credit key, defaults filled in.
 * @param project where the key belongs; its default access is all of it
 * @param now milliseconds since the epoch
 * @throws Rejected `scope_not_allowed`, `invalid_request`, `project_scope_mismatch`
 */
export function creditKeySettings(request: CreditKeyRequest, project: string | null, now: number) {
  const scopes = request.scopes ?? [...DEFAULT_SCOPES];
  if (scopes.includes('admin')) throw new Rejected('scope_not_allowed', undefined, { param: 'scopes' });
  const home = project ?? 'default';
  const access = request.access ?? [`${home}/*`];
  if (project !== null && access.some((pattern) => !pattern.startsWith(`${project}/`))) {
    throw new Rejected('project_scope_mismatch', `This management key can give access to ${project} only.`, {
      param: 'access',
    });
  }
  return {
    project: home,
    name: request.name,
    description: request.description ?? null,
    tags: request.tags ?? [],
    scopes,
    access,
    models: request.models ?? null,
    rpm: request.rpm ?? DEFAULT_RPM,
    expiresAt: expiry(request, now),
  };
}

/** null = never; a date = 00:00 UTC of it. */
function expiry({ expiresAt, expires_in_days: days }: CreditKeyRequest, now: number): string | null {
  if (expiresAt != null && days !== undefined) {
    throw new Rejected('invalid_request', 'Give expiresAt or expires_in_days, not both.', { param: 'expires_in_days' });
  }
  if (days !== undefined) return new Date(now + days * DAY_MS).toISOString();
  if (expiresAt == null) return null;
  const at = new Date(expiresAt);
  if (at.getTime() <= now) throw new Rejected('invalid_request', 'expiresAt is in the past.', { param: 'expiresAt' });
  return at.toISOString();
}

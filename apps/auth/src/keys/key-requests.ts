import type { Actor } from '@sluice/contracts/actor';
import { budgetResetSchema, SCOPES, scopeSchema, type Scope } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { may, SCOPE_PERMISSIONS } from '@sluice/contracts/operations';
import { z } from 'zod';
import { isAddressOrBlock } from './ip-allow.js';
import { MAX_BUDGET } from './key-budget.js';

/** Text that PostgreSQL and a terminal can take: whole characters, and no control characters but what `allowed` has. */
const text = (max: number, forbidden = /\p{Cc}/u) =>
  z
    .string()
    .max(max)
    .refine((value) => value.isWellFormed() && !forbidden.test(value), 'must not have control characters');
/** The same value twice in a list says nothing more. */
const listOf = <T extends z.ZodType<string>>(item: T, max: number) =>
  z
    .array(item)
    .max(max)
    .transform((items) => [...new Set(items)]);

export const slugSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 lower-case letters, digits or dashes');
const accessPattern = z
  .string()
  .max(130)
  .regex(/^[a-z0-9][a-z0-9-]{0,62}\/(\*|[a-z0-9][a-z0-9-]{0,62})$/, 'must be <project>/<workload> or <project>/*');
/** How many entries the access of one key has at most. */
export const MAX_ACCESS = 100;
const limit = (max: number) => z.number().int().min(1).max(max);
/** Bounds of limits: of a key, as of an organization and its projects. */
export const LIMITS = { rpm: limit(10_000_000), tpm: limit(1_000_000_000), concurrency: limit(10_000) };

const name = text(80).trim().min(1);
const scopes = z
  .array(scopeSchema)
  .min(1)
  .max(SCOPES.length)
  .transform((items) => [...new Set(items)]);
const instant = z.union([z.iso.datetime({ offset: true }), z.iso.date()], {
  error: 'must be an instant (RFC 3339) or a date',
});
const days = z.number().int().min(1).max(3650);
const expirySettings = { expiresAt: instant.nullish(), expires_in_days: days.optional() };

/** What a key can be made with and changed to. */
const settings = {
  description: text(500, /[^\P{Cc}\n\t]/u).nullish(),
  tags: listOf(text(40).min(1), 20).optional(),
  access: listOf(accessPattern, MAX_ACCESS).optional(),
  models: listOf(text(256).min(1), 100).pipe(z.array(z.string()).min(1)).nullish(),
  ipAllow: listOf(z.string().max(50).refine(isAddressOrBlock, 'must be an address or a CIDR block'), 100)
    .pipe(z.array(z.string()).min(1))
    .nullish(),
  rpm: LIMITS.rpm.optional(),
  tpm: LIMITS.tpm.nullish(),
  concurrency: LIMITS.concurrency.nullish(),
  priority: z.number().int().min(0).max(9).nullish(),
  /** Pico-USD, by `withExactBudget`: a JSON body can't hold a bigint, so nothing else can pass. */
  maxBudget: z.bigint({ error: 'must be a number of USD' }).min(0n).max(MAX_BUDGET).transform(String).nullish(),
  budgetReset: budgetResetSchema.nullish(),
};

export const creditKeySchema = z.strictObject({
  name,
  project: slugSchema.optional(),
  scopes: scopes.optional(),
  ...settings,
  ...expirySettings,
});
export type CreditKeyRequest = z.infer<typeof creditKeySchema>;

export const updateKeySchema = z.strictObject({
  name: name.optional(),
  isActive: z.boolean().optional(),
  expiresAt: expirySettings.expiresAt,
  ...settings,
});
export type UpdateKeyRequest = z.infer<typeof updateKeySchema>;

/** A body that may be left out. */
export const rotateSchema = z
  .strictObject({ graceSeconds: z.number().int().min(0).max(604_800).default(0), ...expirySettings })
  .prefault({});

export const managementKeySchema = z.strictObject({
  name,
  project: slugSchema.optional(),
  scopes: scopes.optional(),
  ...expirySettings,
});
export type ManagementKeyRequest = z.infer<typeof managementKeySchema>;

/** The header of a write that may be repeated. */
export const idempotencyKeySchema = z.string().min(1).max(255).optional();

const DEFAULT_SCOPES: readonly Scope[] = ['inference:read', 'inference:write'];
const DEFAULT_RPM = 60;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The settings of a new credit key, defaults filled in.
 * @param project of who makes it, if that is bound to one; the key belongs there, and its default access is all of it
 * @param now milliseconds since the epoch
 * @throws Rejected `scope_not_allowed`, `invalid_request`, `project_scope_mismatch`
 */
export function creditKeySettings(request: CreditKeyRequest, project: string | null, now: number) {
  const keyScopes = request.scopes ?? [...DEFAULT_SCOPES];
  requireInferenceScopes(keyScopes);
  requireSameProject(project, request.project);
  const home = request.project ?? project ?? 'default';
  const access = request.access ?? [`${home}/*`];
  requireAccessWithin(project, access);
  const maxBudget = request.maxBudget ?? null;
  const budgetReset = request.budgetReset ?? null;
  requireBudgetOfReset(maxBudget, budgetReset);
  return {
    project: home,
    name: request.name,
    description: request.description ?? null,
    tags: request.tags ?? [],
    scopes: keyScopes,
    access,
    models: request.models ?? null,
    ipAllow: request.ipAllow ?? null,
    rpm: request.rpm ?? DEFAULT_RPM,
    tpm: request.tpm ?? null,
    concurrency: request.concurrency ?? null,
    priority: request.priority ?? null,
    maxBudget,
    budgetReset,
    expiresAt: expiryOf(request, now) ?? null,
  };
}

/** @throws Rejected `scope_insufficient` when one of the scopes of a management key allows more than the actor may */
export function requireNotWider(actor: Pick<Actor, 'kind' | 'role' | 'scopes'>, asked: readonly Scope[]): void {
  const wider = asked.find((scope) => !SCOPE_PERMISSIONS[scope].every((permission) => may(actor, permission)));
  if (wider === undefined) return;
  throw new Rejected('scope_insufficient', `The scope ${wider} of a management key allows more than you may.`, {
    param: 'scopes',
  });
}

/**
 * When it expires: undefined = nothing was said, null = never; a date = 00:00 UTC of it.
 * @throws Rejected `invalid_request` for an instant that has passed
 */
export function expiryOf(
  request: { expiresAt?: string | null | undefined; expires_in_days?: number | undefined },
  now: number,
): string | null | undefined {
  const { expiresAt, expires_in_days: inDays } = request;
  if (expiresAt != null && inDays !== undefined) {
    throw new Rejected('invalid_request', 'Give expiresAt or expires_in_days, not both.', { param: 'expires_in_days' });
  }
  if (inDays !== undefined) return new Date(now + inDays * DAY_MS).toISOString();
  if (expiresAt == null) return expiresAt;
  const at = new Date(expiresAt);
  if (at.getTime() <= now) throw new Rejected('invalid_request', 'expiresAt is in the past.', { param: 'expiresAt' });
  return at.toISOString();
}

/** @throws Rejected `scope_not_allowed` for `admin`, naming where to go */
export function requireInferenceScopes(asked: readonly Scope[]): void {
  if (asked.includes('admin')) {
    throw new Rejected(
      'scope_not_allowed',
      'The scope admin is not for inference keys. Create a management key: POST /api/keys/management.',
      { param: 'scopes' },
    );
  }
}

function requireSameProject(own: string | null, asked: string | undefined): void {
  if (own !== null && asked !== undefined && asked !== own) {
    throw new Rejected('project_scope_mismatch', undefined, { param: 'project' });
  }
}

/** @throws Rejected `project_scope_mismatch` when an entry leads out of the project */
export function requireAccessWithin(project: string | null, access: readonly string[]): void {
  if (project === null || access.every((pattern) => pattern.startsWith(`${project}/`))) return;
  throw new Rejected('project_scope_mismatch', `This management key can give access to ${project} only.`, {
    param: 'access',
  });
}

/** @throws Rejected `invalid_request` for a period without a budget */
export function requireBudgetOfReset(maxBudget: string | null, budgetReset: string | null): void {
  if (budgetReset !== null && maxBudget === null) {
    throw new Rejected('invalid_request', 'budgetReset: takes a maxBudget.', { param: 'budgetReset' });
  }
}

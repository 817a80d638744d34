import { createHash } from 'node:crypto';

export const ORGANIZATIONS = 1_000;

export const organizationOf = (i: number): string => `bench-organization-${i % ORGANIZATIONS}`;

/** Of key `i`: what the database is seeded with, computed there in the same way. */
export const digestOf = (i: number): string => createHash('sha256').update(`bench-${i}`).digest('base64url');

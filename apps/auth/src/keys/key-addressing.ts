import { Rejected } from '@sluice/contracts/errors';
import { z } from 'zod';

const keyId = z.uuid();

/** The id in a path. What can't be one is not there, and is not looked up. @throws Rejected `not_found` */
export function keyIdOf(path: string): string {
  const parsed = keyId.safeParse(path);
  if (!parsed.success) throw noSuchKey();
  return parsed.data;
}

/** @throws Rejected `not_found` for a key that was deleted: nothing but its deletion can be asked for again */
export function notDeleted<T extends { readonly status: string }>(key: T): T {
  if (key.status === 'deleted') throw noSuchKey();
  return key;
}

/** The version of a key, as a strong entity tag. */
export const etagOf = (version: number): string => `"${version}"`;

/**
 * The version that `If-Match` asks for; undefined = any.
 * @throws Rejected `precondition_failed` for tags that are not of ours: they match nothing
 */
export function expectedVersion(ifMatch: string | undefined): number | undefined {
  if (ifMatch === undefined || ifMatch.trim() === '*') return undefined;
  const version = /^\s*"([1-9]\d{0,8})"\s*$/.exec(ifMatch)?.[1];
  if (version === undefined) throw new Rejected('precondition_failed');
  return Number(version);
}

/** `?inflight=`: what becomes of the requests in flight on a key that ends. */
export const inflightSchema = z.strictObject({ inflight: z.enum(['cut', 'drain']).default('cut') });

const noSuchKey = () => new Rejected('not_found', 'There is no such key.');

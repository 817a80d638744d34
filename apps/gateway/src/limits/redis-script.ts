import type { Redis } from 'ioredis';

type Argument = string | number;
/** A script, for any number of keys that it was defined for. */
export type Script<R> = (keys: readonly string[], ...values: readonly Argument[]) => Promise<R>;

/**
 * Defines a script that takes different numbers of keys, as a command for each: then its first argument is a key, which is
 * what a client of a cluster finds the node by.
 */
export function defineScript<R>(redis: Redis, name: string, lua: string, keyCounts: readonly number[]): Script<R> {
  for (const numberOfKeys of keyCounts) redis.defineCommand(`${name}${numberOfKeys}`, { numberOfKeys, lua });
  const commands = redis as unknown as Record<string, (...all: Argument[]) => Promise<R>>;
  return (keys, ...values) => commands[`${name}${keys.length}`]!(...keys, ...values);
}

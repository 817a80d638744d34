import { createHash } from 'node:crypto';
import { isIPv6 } from 'node:net';

export interface LoginLimit {
  /** Attempts in one window. */
  readonly attempts: number;
  readonly windowMs: number;
}

const QUARTER_HOUR_MS = 15 * 60_000;

/** Of one account, of one address, starts of sign-ins by a provider and reports of leaked secrets from one address. */
export const LOGIN_LIMITS = {
  account: { attempts: 10, windowMs: QUARTER_HOUR_MS },
  address: { attempts: 100, windowMs: QUARTER_HOUR_MS },
  'provider-start': { attempts: 100, windowMs: QUARTER_HOUR_MS },
  'leak-report': { attempts: 500, windowMs: QUARTER_HOUR_MS },
} as const satisfies Record<string, LoginLimit>;
export type LoginLimitKind = keyof typeof LOGIN_LIMITS;

/**
 * The bucket that attempts are counted in: 20 bits of a digest, so that the table has at most a million rows of a kind
 * however many emails and addresses are tried, and says nothing of whose they are.
 */
export function bucketOf(kind: LoginLimitKind, who: string): string {
  const counted = kind === 'account' ? who : network(who);
  return `${kind}:${createHash('sha256').update(`${kind} ${counted}`).digest('hex').slice(0, 5)}`;
}

/** One subscriber of IPv6 has a whole /64. */
function network(address: string): string {
  if (!isIPv6(address)) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [head = '', tail] = address.toLowerCase().split('::');
  const groups = head === '' ? [] : head.split(':');
  const rest = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = Array.from({ length: Math.max(0, 8 - groups.length - rest.length) }, () => '0');
  return [...groups, ...(tail === undefined ? [] : missing), ...rest]
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':');
}

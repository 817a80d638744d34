import type { Patch } from '../revocation/build.ts';
import type { Scene } from './play.ts';

/** The limiter with one of its rules switched off, in a copy of its build. */
export interface Mutant {
  readonly name: string;
  readonly without: string;
  readonly patches: readonly Patch[];
  /** The scene that has to find it. */
  readonly scene: Scene;
}

const patch = (file: string, from: string, to: string): Patch => ({
  file: `apps/gateway/dist/limits/${file}.js`,
  from,
  to,
});
const LUA = 'admit-request.lua';
const LIMITER = 'redis-limiter.service';
const FREED = "redis.call('ZREM', running, unpack(ARGV, 4, 3 + released + never))";
const LOG = "redis.call('ZREMRANGEBYSCORE', log, '-inf', now - window)";

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'window-too-short',
    without: 'requests count for a whole window',
    patches: [patch(LUA, LOG, LOG.replace('window', 'window * 0.9'))],
    scene: 'load',
  },
  {
    name: 'window-too-long',
    without: 'requests count for no longer than a window',
    patches: [patch(LUA, LOG, LOG.replace('window', 'window * 1.1'))],
    scene: 'load',
  },
  {
    name: 'tokens-for-too-short',
    without: 'tokens count for a whole window',
    patches: [patch(LUA, 'if at < oldest or', 'if at <= oldest + 9 or')],
    scene: 'load',
  },
  {
    name: 'counted-by-each-gateway',
    without: 'all gateways count together',
    patches: [patch(LIMITER, '`sluice:rpm:${name}`', '`sluice:rpm:${name}:${process.pid}`')],
    scene: 'load',
  },
  {
    name: 'narrowest-scope-only',
    without: 'project and organization are limited too',
    patches: [
      patch('limit-scopes', 'if (projectLimits !== null)', 'if (scopes.length === 0 && projectLimits !== null)'),
    ],
    scene: 'taken',
  },
  {
    name: 'refused-takes',
    without: 'a request that one limit refuses takes nothing of the others',
    patches: [patch(LUA, 'if of == 0 and not known then', 'if not known then')],
    scene: 'taken',
  },
  {
    name: 'estimate-stays',
    without: 'tokens are set right by the fact',
    patches: [patch(LUA, "if string.sub(ARGV[1], i, i) == '1' then", 'if false then')],
    scene: 'taken',
  },
  {
    name: 'places-not-renewed',
    without: 'a place is held for as long as its request runs',
    patches: [patch(LIMITER, 'for (const place of this.held.values())', 'for (const place of [])')],
    scene: 'load',
  },
  {
    name: 'places-renewed-for-ever',
    without: 'a place is held no longer than its request runs',
    patches: [patch(LIMITER, 'this.held.delete(place.requestId);', '')],
    scene: 'load',
  },
  {
    name: 'places-not-given-back',
    without: 'a place is free when its request ends, not when its lease does',
    patches: [patch(LUA, FREED, '')],
    scene: 'load',
  },
  {
    name: 'places-of-others-given-back',
    without: 'a request gives back its own place and no other',
    patches: [patch(LUA, FREED, "redis.call('DEL', running)")],
    scene: 'load',
  },
  {
    name: 'places-of-the-dead-kept',
    without: 'a lease ends',
    patches: [
      patch(LUA, "redis.call('ZREMRANGEBYSCORE', KEYS[3 * i], '-inf', now)", ''),
      patch(LUA, "redis.call('PEXPIRE', KEYS[3 * i], ARGV[4] * 2)", ''),
    ],
    scene: 'crash',
  },
  {
    name: 'share-is-the-limit',
    without: 'a gateway that decides alone has its share only',
    patches: [patch('limiter', 'Math.floor(limit / Math.max(1, gateways))', 'limit')],
    scene: 'redis',
  },
  {
    name: 'past-forgotten-alone',
    without: 'what was admitted by Redis counts when it is away',
    patches: [patch(LIMITER, 'this.local.note(place, now);', '')],
    scene: 'redis',
  },
  {
    name: 'data-loss-unnoticed',
    without: 'a Redis that lost its data is not believed for a window',
    patches: [patch(LIMITER, 'if (now - this.aloneAt >= this.windowMs)', 'if (true)')],
    scene: 'redis',
  },
  {
    name: 'never-back',
    without: 'Redis decides again when it is back',
    patches: [patch(LIMITER, 'resetTimeout: 1_000', 'resetTimeout: 600_000')],
    scene: 'redis',
  },
];

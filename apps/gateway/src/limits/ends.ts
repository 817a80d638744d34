import type { LimitScope } from './limit-scopes.js';
import type { Place } from './limiter.js';

/** What ended of one set of scopes and is not told to Redis yet. */
export interface Ended {
  readonly scopes: readonly LimitScope[];
  /** Whose places in flight are free. */
  readonly released: string[];
  /** What is to count as never admitted; their places are free, too. */
  readonly never: string[];
  /** Tokens to be added to what a part of the window was charged. */
  readonly changes: Map<number, number>;
}

/** Ends of requests, gathered by what they are limited by, so that Redis is told of many of them at once. */
export class Ends {
  private readonly bySet = new Map<string, Ended>();

  /** @param never it is to count as never admitted */
  add({ requestId, scopes, tokens, part }: Place, fact: number, never: boolean): void {
    const ended = this.of(scopes);
    if (never) ended.never.push(requestId);
    else if (scopes.some(({ concurrency }) => concurrency !== null)) ended.released.push(requestId);
    change(ended, part, fact - tokens);
  }

  /** What was held and not used. */
  unused(scopes: readonly LimitScope[], units: readonly string[], part: number, tokens: number): void {
    const ended = this.of(scopes);
    ended.never.push(...units);
    change(ended, part, -tokens);
  }

  /** Takes away what there is of one set of scopes; undefined where there is nothing to tell. */
  take(scopes: readonly LimitScope[]): Ended | undefined {
    const name = nameOf(scopes);
    const ended = this.bySet.get(name);
    this.bySet.delete(name);
    return ended && (ended.released.length > 0 || ended.never.length > 0 || ended.changes.size > 0) ? ended : undefined;
  }

  takeAll(): Ended[] {
    return Array.from(this.bySet.values()).flatMap(({ scopes }) => this.take(scopes) ?? []);
  }

  private of(scopes: readonly LimitScope[]): Ended {
    const name = nameOf(scopes);
    let ended = this.bySet.get(name);
    if (!ended) this.bySet.set(name, (ended = { scopes, released: [], never: [], changes: new Map() }));
    return ended;
  }
}

/** What has no tokens counted stands for itself: a limit may have come or gone in between. */
const nameOf = (scopes: readonly LimitScope[]): string =>
  scopes.map(({ name, tpm }) => (tpm === null ? name : `${name} t`)).join(' ');

function change({ scopes, changes }: Ended, part: number | undefined, tokens: number): void {
  if (part === undefined || tokens === 0 || scopes.every(({ tpm }) => tpm === null)) return;
  changes.set(part, (changes.get(part) ?? 0) + tokens);
}

import type { Random } from '../runner/random.ts';

/** Requests and tokens in a window, requests in flight at once; null = no limit. */
export interface Limits {
  readonly rpm: number | null;
  readonly tpm: number | null;
  readonly concurrency: number | null;
}

/** What is limited as one. */
export interface Scope extends Limits {
  readonly kind: 'key' | 'project' | 'organization';
  readonly name: string;
}

export interface PlannedKey {
  readonly name: string;
  /** Those that have a limit, the narrowest first. */
  readonly scopes: readonly Scope[];
  readonly organization: string;
  readonly project: string;
  /** Calls that its users would like to make, a second. */
  readonly demand: number;
  readonly users: number;
  /** Its answers last. */
  readonly streams: boolean;
  /** Now and then one of them lasts longer than the lease of its place. */
  readonly long: boolean;
}

export interface Plan {
  readonly scopes: readonly Scope[];
  readonly keys: readonly PlannedKey[];
}

export const NO_LIMITS: Limits = { rpm: null, tpm: null, concurrency: null };
/** Everybody's; the other organization is made for the run, and has limits. */
export const HOME = 'demo';
export const OTHER = 'other';
const MAX_DEMAND = 6;
/** How much more is wanted than there is. */
const THIRST = 1.8;
/** What the average call is charged where tokens count, see `shapeOf` of the load. */
const MEAN_TOKENS = 30;
/** Whose only limits are of places in flight: they are asked for all of them right after the load. */
const BARE_EVERY = 6;

/** @param windowSeconds limits are rates × this, so that a short window needs no more load */
export function planOf(count: number, windowSeconds: number, random: Random): Plan {
  const shared = ['north', 'south'].map((name) => scopeOf('project', name, 3, windowSeconds, random.fork(name)));
  const other = scopeOf('organization', OTHER, 4, windowSeconds, random.fork(OTHER));
  const inner = scopeOf('project', 'inner', 2.5, windowSeconds, random.fork('inner'));
  const keys = Array.from({ length: count }, (_, i): PlannedKey => {
    const chance = random.fork(`key ${i}`);
    const name = `key-${i + 1}`;
    const bare = i % BARE_EVERY === 0;
    const own = bare
      ? { kind: 'key' as const, name, ...NO_LIMITS, concurrency: Math.round(chance.between(1, 6)) }
      : scopeOf('key', name, 1, windowSeconds, chance);
    // Of ten keys two are of a project with limits, one of the other organization, one of a project in there.
    const place = bare ? 'home' : (['north', 'south', 'other', 'inner'][i % 10] ?? 'home');
    const above =
      place === 'inner' ? [inner, other] : place === 'other' ? [other] : shared.filter((one) => one.name === place);
    const away = place === 'other' || place === 'inner';
    const at = {
      organization: away ? OTHER : HOME,
      project: place === 'home' || place === 'other' ? 'default' : place,
    };
    return { name, scopes: [own, ...above], ...at, ...useOf(own, above, windowSeconds, chance) };
  });
  return { scopes: [...new Set(keys.flatMap(({ scopes }) => scopes))], keys };
}

/** A random combination of limits, at least one. @param size how much larger than a key's */
function scopeOf(kind: Scope['kind'], name: string, size: number, windowSeconds: number, random: Random): Scope {
  const rpm = Math.max(2, Math.round(random.between(0.3, 2.5) * size * windowSeconds));
  const tpm = Math.round(random.between(20, 90) * size * windowSeconds);
  const concurrency = Math.round(random.between(1, 5) * size);
  const [byRequests, byTokens, byPlaces] = [random.next() < 0.65, random.next() < 0.45, random.next() < 0.4];
  return {
    kind,
    name,
    rpm: byRequests || (!byTokens && !byPlaces) ? rpm : null,
    tpm: byTokens ? tpm : null,
    concurrency: byPlaces ? concurrency : null,
  };
}

function useOf({ rpm, tpm, concurrency }: Scope, above: readonly Scope[], windowSeconds: number, random: Random) {
  const streams = [concurrency, ...above.map((scope) => scope.concurrency)].some((limit) => limit !== null);
  const counted = [tpm, ...above.map((scope) => scope.tpm)].some((limit) => limit !== null);
  const perSecond = Math.min(rpm ?? Infinity, tpm === null ? Infinity : tpm / MEAN_TOKENS) / windowSeconds;
  return {
    demand: Math.min(MAX_DEMAND, perSecond * THIRST),
    users: concurrency === null ? 3 : concurrency + 2,
    streams,
    long: streams && !counted && random.next() < 0.5,
  };
}

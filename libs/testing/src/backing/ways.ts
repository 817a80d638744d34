import { BackingUnavailable, type Servers } from './backing.js';

/** A way to get servers: what it would bring, or why it cannot be gone. */
export type Way =
  | { readonly why: string }
  | {
      /** For people: servers, versions and where they come from. */
      readonly what: string;
      start(): Promise<{ readonly servers: Partial<Servers>; stop: () => Promise<void> }>;
    };

export type WayKind = 'docker' | 'local';

const NAMES: Readonly<Record<WayKind, string>> = { docker: 'containers', local: 'private processes' };

/** Which ways to try, in order. `BACKING` leaves one, and then nothing stands in for it. */
export function order(forced: string | undefined, prefer: WayKind): WayKind[] {
  if (forced === undefined || forced === '') return prefer === 'local' ? ['local', 'docker'] : ['docker', 'local'];
  if (forced === 'docker' || forced === 'local') return [forced];
  throw new BackingUnavailable(`BACKING is "${forced}"; it takes docker or local, or nothing for either`);
}

/**
 * Goes the first way that works: one that cannot be gone, or fails on the way, is said and passed over.
 * @throws BackingUnavailable with every way's reason and what to install
 */
export async function firstThatWorks(
  kinds: readonly WayKind[],
  look: (kind: WayKind) => Promise<Way>,
  onProgress: (line: string) => void,
): Promise<{ kind: WayKind; reason: string; servers: Partial<Servers>; stop: () => Promise<void> }> {
  const refusals: string[] = [];
  for (const kind of kinds) {
    const way = await look(kind);
    let why = 'why' in way ? way.why : '';
    if ('start' in way) {
      try {
        const started = await way.start();
        return { kind, reason: [`${NAMES[kind]}: ${way.what}`, ...refusals].join('; '), ...started };
      } catch (error) {
        why = (error as Error).message;
      }
    }
    refusals.push(`no ${NAMES[kind]}: ${why}`);
    onProgress(`no ${NAMES[kind]}: ${why}`);
  }
  throw new BackingUnavailable(
    [
      'The backing services cannot be had on this machine.',
      ...refusals.map((line) => `- ${line}`),
      'Any of these helps: start Docker; install PostgreSQL 17, nats-server (2.9 or later) and Redis 7 so that postgres, nats-server',
      'and redis-server are on PATH; or set SLUICE_POSTGRES_URL (a superuser), SLUICE_NATS_URL and SLUICE_REDIS_URL.',
    ].join('\n'),
  );
}

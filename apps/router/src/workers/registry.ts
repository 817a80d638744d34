import {
  DEFAULT_DIALECTS,
  HEARTBEAT_GONE_MS,
  type ServedModels,
  type WorkerDialect,
  type WorkerHeartbeat,
} from '@sluice/contracts/router';

/** Between two probes of a worker that nothing is heard from. */
export const PROBE_EVERY_MS = 1_000;
/** Between two probes of a worker that just refused a connection: it may be back in a moment. */
export const SUSPECT_PROBE_EVERY_MS = 250;
/** How long a worker that is down stays known, and is probed, so that it comes back without the bus. */
export const FORGET_AFTER_MS = 10 * 60_000;
export const MAX_WORKERS = 1_000;
/** Failed attempts in a row after which a worker that answers its probes gets no more than a trial now and then. */
export const FAILURES_TO_OPEN = 5;
export const TRIAL_EVERY_MS = 1_000;
export const TRIAL_EVERY_AT_MOST_MS = 30_000;

/**
 * live: heard or probed · silent: no heartbeat, still used, probed · suspect: a connection to it failed, unused until a
 * probe answers · open: answers probes, fails requests, gets trials only · down: silent and its probe failed.
 */
export type WorkerState = 'live' | 'silent' | 'suspect' | 'open' | 'down';

export interface WorkerFacts {
  readonly id: string;
  /** Base URL without `/v1` and without a trailing slash; on the allow-list. */
  readonly url: string;
  readonly models: readonly string[];
  readonly slots: number;
  /** As it says; some may not be known here. */
  readonly dialects: readonly string[];
}

export interface Worker extends WorkerFacts {
  /** From the configuration: never forgotten, always probed, its URL is not a heartbeat's to change. */
  readonly fixed: boolean;
  /** Monotonic milliseconds; null = never. */
  readonly heardAt: number | null;
  readonly answeredAt: number | null;
  readonly suspect: boolean;
  readonly down: boolean;
  readonly failures: number;
  /** While in the future, no request goes there. */
  readonly closedUntil: number;
}

type Entry = { -readonly [K in keyof Worker]: Worker[K] } & { since: number; probing: boolean; probedAt: number };

export type Heard = 'joined' | 'known' | 'moved' | 'refused';

/**
 * Who is there, from heartbeats, probes and what the attempts met. Time comes in with every call (monotonic
 * milliseconds), so that the same class runs under a simulated clock.
 */
export class Registry {
  private readonly workers = new Map<string, Entry>();

  /** A worker of the configuration; used after its first good probe or heartbeat. */
  fix(facts: WorkerFacts, now: number): void {
    this.workers.set(facts.id, { ...fresh(facts, now), fixed: true });
  }

  /** @param url the heartbeat's URL as the allow-list accepted it; `refused` = another worker's place, or too many */
  heard(beat: WorkerHeartbeat, url: string, now: number): Heard {
    const { id, slots, dialects = DEFAULT_DIALECTS } = beat;
    const facts = { id, url, models: beat.models.map((model) => model.id), slots, dialects };
    const known = this.workers.get(beat.id);
    if (!known) {
      if (this.workers.size >= MAX_WORKERS) return 'refused';
      this.workers.set(beat.id, { ...fresh(facts, now), heardAt: now });
      return 'joined';
    }
    if (known.fixed && known.url !== url) return 'refused';
    // The same id at another address is a worker that was started anew: what was held against the old one is void.
    const moved = known.url !== url;
    Object.assign(known, moved ? { ...fresh(facts, now), fixed: known.fixed } : facts);
    const back = known.down;
    known.heardAt = now;
    known.down = false;
    return moved ? 'moved' : back ? 'joined' : 'known';
  }

  /** The workers to ask for their health now; each is marked as asked until `probed` is called for it. */
  startProbes(now: number): WorkerFacts[] {
    const due: WorkerFacts[] = [];
    for (const worker of this.workers.values()) {
      const every = worker.suspect && !worker.down ? SUSPECT_PROBE_EVERY_MS : PROBE_EVERY_MS;
      const wanted = worker.suspect || worker.down || worker.fixed || isSilent(worker, now);
      if (worker.probing || !wanted || now - worker.probedAt < every) continue;
      worker.probing = true;
      worker.probedAt = now;
      due.push(worker);
    }
    return due;
  }

  /** What a probe found. A result for an address the worker has left says nothing. */
  probed(asked: Pick<WorkerFacts, 'id' | 'url'>, healthy: boolean, now: number): void {
    const worker = this.workers.get(asked.id);
    if (!worker || worker.url !== asked.url) return;
    worker.probing = false;
    if (healthy) {
      worker.answeredAt = now;
      worker.suspect = false;
      worker.down = false;
    } else if (isSilent(worker, now)) worker.down = true;
  }

  /** A connection to it failed or broke before the first byte: it may be dead, only a probe can tell. */
  suspect(id: string): void {
    const worker = this.workers.get(id);
    if (!worker) return;
    worker.suspect = true;
    worker.probedAt = Number.NEGATIVE_INFINITY;
  }

  /** It answered with an error, with nonsense, not in time, or broke off. */
  failed(id: string, now: number): void {
    const worker = this.workers.get(id);
    if (!worker) return;
    worker.failures++;
    const over = worker.failures - FAILURES_TO_OPEN;
    if (over >= 0)
      worker.closedUntil = now + Math.min(TRIAL_EVERY_MS * 2 ** Math.min(over, 10), TRIAL_EVERY_AT_MOST_MS);
  }

  succeeded(id: string): void {
    const worker = this.workers.get(id);
    if (!worker) return;
    worker.failures = 0;
    worker.closedUntil = 0;
  }

  /** A request goes there. To a worker that keeps failing it is a trial, and the next one is a while off. */
  dispatched(id: string, now: number): void {
    const worker = this.workers.get(id);
    if (worker && worker.failures >= FAILURES_TO_OPEN) worker.closedUntil = now + TRIAL_EVERY_MS;
  }

  /** The workers that may be given a request for the model, in the dialect, now. */
  usable(model: string, dialect: WorkerDialect, now: number): WorkerFacts[] {
    const found: WorkerFacts[] = [];
    for (const worker of this.workers.values()) {
      if (isUsable(worker, now) && worker.models.includes(model) && worker.dialects.includes(dialect))
        found.push(worker);
    }
    return found;
  }

  /** What the models' workers speak, all of them: also those that are only away for a moment. */
  served(): ServedModels['models'] {
    const common = new Map<string, readonly string[]>();
    for (const { models, dialects, down } of this.workers.values()) {
      if (down) continue;
      for (const model of models) {
        const before = common.get(model);
        common.set(model, before ? before.filter((dialect) => dialects.includes(dialect)) : dialects);
      }
    }
    return Array.from(common, ([id, dialects]) => ({ id, dialects: [...dialects] }));
  }

  /** Removes what has been down for long. @returns the ids removed, whose connections can be closed */
  forget(now: number): string[] {
    const gone = Array.from(this.workers.values()).filter(
      (worker) => worker.down && !worker.fixed && now - lastSeen(worker) > FORGET_AFTER_MS,
    );
    for (const { id } of gone) this.workers.delete(id);
    return gone.map(({ id }) => id);
  }

  urls(): ReadonlySet<string> {
    return new Set(Array.from(this.workers.values(), ({ url }) => url));
  }

  list(now: number): (Worker & { readonly state: WorkerState; readonly seenAt: number | null })[] {
    return Array.from(this.workers.values(), (worker) => ({
      ...worker,
      state: stateOf(worker, now),
      seenAt: worker.heardAt === null && worker.answeredAt === null ? null : lastSeen(worker),
    }));
  }
}

const fresh = (facts: WorkerFacts, now: number): Entry => ({
  ...facts,
  fixed: false,
  heardAt: null,
  answeredAt: null,
  suspect: false,
  down: false,
  failures: 0,
  closedUntil: 0,
  since: now,
  probing: false,
  probedAt: Number.NEGATIVE_INFINITY,
});

const isSilent = (worker: Entry, now: number): boolean =>
  worker.heardAt === null || now - worker.heardAt > HEARTBEAT_GONE_MS;

// Silence alone does not end a worker: the bus may be what is silent. A failed probe does.
const isUsable = (worker: Entry, now: number): boolean =>
  !worker.suspect &&
  !worker.down &&
  now >= worker.closedUntil &&
  (worker.heardAt !== null || worker.answeredAt !== null);

const lastSeen = (worker: Entry): number => Math.max(worker.heardAt ?? worker.since, worker.answeredAt ?? worker.since);

function stateOf(worker: Entry, now: number): WorkerState {
  if (worker.down || (worker.heardAt === null && worker.answeredAt === null)) return 'down';
  if (worker.suspect) return 'suspect';
  if (worker.failures >= FAILURES_TO_OPEN) return 'open';
  return isSilent(worker, now) && !worker.fixed ? 'silent' : 'live';
}

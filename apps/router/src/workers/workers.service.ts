import { Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { ServedModels, WorkerDialect, WorkerHeartbeat } from '@sluice/contracts/router';
import type { Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { Pool } from 'undici';
import { Accounting } from '../placement/accounting.js';
import { place } from '../placement/placement.js';
import { isFailure, type Outcome } from '../proxy/outcome.js';
import { workersByState, workersInFlight } from '../router.metrics.js';
import { AllowList } from './allow-list.js';
import { Registry, type Heard, type WorkerFacts, type WorkerState } from './registry.js';
import { Waiting } from './waiting.service.js';

/** How often the books are looked at for probes that are due. */
const TICK_MS = 250;
const PROBE_TIMEOUT_MS = 1_000;
/** A worker's response head; engines need less than 1 KiB. */
const MAX_HEADER_BYTES = 16 * 1024;

export interface WorkersOptions {
  readonly fixed: readonly WorkerFacts[];
  readonly allow: AllowList;
  /** By worker id; `*` is everybody else's. */
  readonly secrets: ReadonlyMap<string, string>;
  readonly connectTimeoutMs: number;
  readonly waitMs: number;
  readonly maxWaiting: number;
}

/** What a worker has to be able to do. */
export interface Wanted {
  readonly model: string;
  readonly dialect: WorkerDialect;
}

/** A worker booked for one attempt; `release` when the attempt has ended. */
export interface Booked {
  readonly id: string;
  readonly pool: Pool;
  /** Path of the worker's base URL, without a trailing slash. */
  readonly base: string;
  readonly secret: string | undefined;
  readonly release: () => void;
}

interface Line {
  readonly pool: Pool;
  readonly base: string;
}

/** The workers as this router knows them: hears of them, probes them, books requests on them, keeps connections to them. */
@Injectable()
export class WorkersService implements OnModuleInit, OnApplicationShutdown {
  private readonly registry = new Registry();
  private readonly accounting = new Accounting();
  private readonly waiting: Waiting;
  private readonly lines = new Map<string, Line>();
  private readonly log = loggerFor('workers');
  private ticking: NodeJS.Timeout | undefined;

  constructor(
    private readonly options: WorkersOptions,
    private readonly clock: Clock,
    private readonly random: () => number,
  ) {
    this.waiting = new Waiting(options.maxWaiting);
  }

  onModuleInit(): void {
    for (const facts of this.options.fixed) this.registry.fix(facts, this.clock.monotonic());
    this.ticking = setInterval(() => this.tick(), TICK_MS);
    this.tick();
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.ticking);
    await Promise.all(Array.from(this.lines.values(), ({ pool }) => pool.destroy()));
  }

  /** @returns `not_allowed` when the heartbeat names a URL that no prompt may be sent to */
  heard(beat: WorkerHeartbeat): Heard | 'not_allowed' {
    const url = this.options.allow.accept(beat.url);
    if (url === undefined) return 'not_allowed';
    const heard = this.registry.heard(beat, url, this.clock.monotonic());
    if (heard === 'joined' || heard === 'moved') {
      this.log.info({ worker: beat.id, url, heard }, 'worker');
      if (heard === 'moved') this.closeUnused();
      this.waiting.wake();
    }
    return heard;
  }

  /**
   * The least loaded worker of the model that speaks the dialect, outside `tried`, booked. With `wait`, when there is
   * none: waits for one, for a short time, so that a restart of a worker or of this router does not fail the calls that
   * fall into it.
   */
  async book(
    wanted: Wanted,
    tried: ReadonlySet<string>,
    wait: boolean,
    ended: AbortSignal,
  ): Promise<Booked | undefined> {
    const booked = this.bookNow(wanted, tried);
    return booked || !wait ? booked : this.waitFor(wanted, tried, ended);
  }

  /** The first byte of an answer: the worker works. */
  succeeded(id: string): void {
    this.registry.succeeded(id);
  }

  /** What the end of an attempt says about the worker. */
  met(id: string, outcome: Outcome): void {
    if (outcome.kind === 'unreachable') {
      this.registry.suspect(id);
      this.tick();
    } else if (outcome.kind === 'broken' || (isFailure(outcome) && outcome.kind !== 'full')) {
      this.registry.failed(id, this.clock.monotonic());
    }
  }

  list() {
    const now = this.clock.monotonic();
    return this.registry.list(now).map((worker) => ({
      id: worker.id,
      url: worker.url,
      models: worker.models,
      slots: worker.slots,
      dialects: worker.dialects,
      inFlight: this.accounting.inFlight(worker.id),
      state: worker.state satisfies WorkerState,
      /** Wall clock in milliseconds; null = never. */
      lastSeen: worker.seenAt === null ? null : this.clock.now() - (now - worker.seenAt),
    }));
  }

  served(): ServedModels['models'] {
    return this.registry.served();
  }

  private async waitFor(wanted: Wanted, tried: ReadonlySet<string>, ended: AbortSignal): Promise<Booked | undefined> {
    if (!this.waiting.enter()) return undefined;
    try {
      const until = this.clock.monotonic() + this.options.waitMs;
      for (;;) {
        const left = until - this.clock.monotonic();
        if (left <= 0 || ended.aborted) return undefined;
        // A turn ends with the tick too: a worker kept for trials is free again by the clock, and nobody says so.
        await this.waiting.turn(Math.min(left, TICK_MS), ended);
        const booked = ended.aborted ? undefined : this.bookNow(wanted, tried);
        if (booked) return booked;
      }
    } finally {
      this.waiting.leave();
    }
  }

  /** Choice and booking are one turn: two requests can't both see the same worker as idle. */
  private bookNow({ model, dialect }: Wanted, tried: ReadonlySet<string>): Booked | undefined {
    const now = this.clock.monotonic();
    const candidates = this.registry.usable(model, dialect, now).filter(({ id }) => !tried.has(id));
    const chosen = place(candidates, (id) => this.accounting.inFlight(id), this.random);
    if (!chosen) return undefined;
    this.registry.dispatched(chosen.id, now);
    return {
      id: chosen.id,
      ...this.lineTo(chosen.url),
      secret: this.options.secrets.get(chosen.id) ?? this.options.secrets.get('*'),
      release: this.accounting.book(chosen.id),
    };
  }

  private tick(): void {
    const now = this.clock.monotonic();
    for (const asked of this.registry.startProbes(now)) void this.probe(asked);
    if (this.registry.forget(now).length > 0) this.closeUnused();
    workersInFlight.reset();
    workersByState.reset();
    for (const { id, state, inFlight } of this.list()) {
      workersInFlight.set({ worker: id }, inFlight);
      workersByState.inc({ state });
    }
  }

  private async probe({ id, url }: WorkerFacts): Promise<void> {
    const healthy = await this.isHealthy(url);
    this.registry.probed({ id, url }, healthy, this.clock.monotonic());
    if (healthy) this.waiting.wake();
  }

  private async isHealthy(url: string): Promise<boolean> {
    try {
      const { pool, base } = this.lineTo(url);
      const { statusCode, body } = await pool.request({
        method: 'GET',
        path: `${base}/health`,
        signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
      });
      await body.dump({ limit: MAX_HEADER_BYTES, signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
      return statusCode >= 200 && statusCode < 300;
    } catch {
      return false;
    }
  }

  private lineTo(url: string): Line {
    let line = this.lines.get(url);
    if (!line) {
      const { origin, pathname } = new URL(url);
      // No limit on connections: what may run at once is bounded where requests come in, and a queue in here would
      // be one nobody sees.
      const pool = new Pool(origin, {
        connections: null,
        pipelining: 1,
        connectTimeout: this.options.connectTimeoutMs,
        maxHeaderSize: MAX_HEADER_BYTES,
        allowH2: false,
      });
      line = { pool, base: pathname.replace(/\/$/, '') };
      this.lines.set(url, line);
    }
    return line;
  }

  /** Ends the connections to addresses that no known worker has any more; what runs on them finishes first. */
  private closeUnused(): void {
    const used = this.registry.urls();
    for (const [url, { pool }] of this.lines) {
      if (used.has(url)) continue;
      this.lines.delete(url);
      void pool.close();
    }
  }
}

import { EVIDENCE_MARGIN_MS, EVIDENCE_MS, type Credential, type Invalidation } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import type { Clock } from '@sluice/primitives/clock';
import { KeyProjection } from './key-projection.js';

export const KEYS = 2;
/** The organization of all keys but the last. */
const ORGANIZATION = 'o1';

/** One thing that happens; times are milliseconds. */
export type Happening =
  | { readonly what: 'request'; readonly key: number; readonly readAfter: number; readonly answerAfter: number }
  /** `pushAfter` null: the push does not arrive. */
  | {
      readonly what: 'change';
      readonly target: number;
      readonly storeAfter: number;
      readonly pushAfter: number | null;
    }
  | { readonly what: 'feed-slow'; readonly delay: number }
  /** `gap`: what was stored meanwhile is never delivered, as of a broker that lost its newest messages. */
  | { readonly what: 'feed-lost'; readonly noticeAfter: number; readonly backAfter: number; readonly gap: boolean }
  /** The process is stopped (SIGSTOP), or the whole machine sleeps, its monotonic clock with it. */
  | { readonly what: 'pause' | 'sleep'; readonly for: number }
  | { readonly what: 'clock-set'; readonly by: number };

interface Due {
  readonly at: number;
  readonly n: number;
  readonly where: 'world' | 'gateway' | 'request';
  readonly run: () => void;
}

/** After a pause of the process the first thing that runs is a request. */
const inOrder = (a: Due, b: Due): number =>
  a.at - b.at || Number(b.where === 'request') - Number(a.where === 'request') || a.n - b.n;

type Message = { readonly invalidation: Invalidation } | { readonly barrier: number };

/**
 * Auth, the broker and one gateway in one simulated time. It knows when an invalidation is in force as auth would say
 * it: confirmed by the gateway, or L + margin after the broker stored it.
 */
export class KeyWorld {
  /** What the gateway accepted although it was in force that it must not. */
  readonly violations: string[] = [];
  accepted = 0;
  private now = 0;
  private asleep = 0;
  private wallSet = 0;
  private readonly queue: Due[] = [];
  private n = 0;
  private stoppedUntil = 0;
  private readonly versions = new Map<string, { version: number; alive: boolean }>();
  private readonly inForce: { readonly invalidation: Invalidation; at: number }[] = [];
  private readonly stored: Message[] = [];
  private consumer = { alive: false, position: 0 };
  private deliveredUntil = 0;
  private feedDelay = 1;
  private sent = new Set<number>();
  private readonly looking = new Set<number>();
  private readonly gateway: KeyProjection;

  constructor() {
    const clock: Clock = {
      now: () => 1_750_000_000_000 + this.now + this.wallSet,
      monotonic: () => this.now - this.asleep,
    };
    this.gateway = new KeyProjection(100, clock);
    this.follow();
    this.barrier();
  }

  happen(happening: Happening): void {
    switch (happening.what) {
      case 'request':
        return this.push(this.now, 'request', () => this.request(happening));
      case 'change':
        return this.change(happening);
      case 'feed-slow':
        this.feedDelay = happening.delay;
        return;
      case 'feed-lost': {
        const lost = this.consumer;
        if (!lost.alive) return;
        lost.alive = false;
        return this.atGateway(happening.noticeAfter, () => {
          this.gateway.stoppedFollowing();
          this.atGateway(happening.backAfter, () => {
            if (happening.gap) this.consumer.position = this.stored.length;
            this.follow();
          });
        });
      }
      case 'pause':
        this.stoppedUntil = Math.max(this.stoppedUntil, this.now + happening.for);
        return;
      case 'sleep':
        // Nothing in this machine goes on, its monotonic clock neither.
        this.stoppedUntil = Math.max(this.stoppedUntil, this.now + happening.for);
        this.atWorld(happening.for, () => (this.asleep += happening.for));
        return;
      case 'clock-set':
        // Set together with a sleep it can hide the sleep: that is not promised. A gateway looks every 50 ms.
        if (this.now < this.stoppedUntil) return;
        this.gateway.check();
        this.wallSet += happening.by;
        this.gateway.check();
    }
  }

  /** Lets this much time go by, and whatever comes due in it. */
  pass(milliseconds: number): void {
    const until = this.now + milliseconds;
    for (;;) {
      const due = this.queue.filter(({ at }) => at <= until).sort(inOrder)[0];
      if (!due) break;
      this.queue.splice(this.queue.indexOf(due), 1);
      this.now = Math.max(this.now, due.at);
      if (due.where !== 'world' && this.now < this.stoppedUntil) this.push(this.stoppedUntil, due.where, due.run);
      else due.run();
    }
    this.now = until;
  }

  private request({ key, readAfter, answerAfter }: Extract<Happening, { what: 'request' }>): void {
    const known = this.gateway.admit(`d${key}`);
    if (known) {
      this.accepted++;
      const broken = this.inForce.find(
        ({ at, invalidation: { id, version } }) =>
          at <= this.now &&
          ((id === known.keyId && known.version < version) ||
            (id === known.organizationId && known.organizationVersion < version)),
      );
      if (broken)
        this.violations.push(
          `at ${this.now}: ${JSON.stringify(broken)} against ${known.version}/${known.organizationVersion}`,
        );
      return;
    }
    if (this.looking.has(key)) return;
    this.looking.add(key);
    const flight = this.gateway.beginLookup();
    this.atWorld(readAfter, () => {
      const answer = this.read(key);
      this.atGateway(answerAfter, () => {
        this.looking.delete(key);
        if (answer) this.gateway.finishLookup(flight, `d${key}`, answer);
      });
    });
  }

  private read(key: number): Credential | undefined {
    const own = this.versionOf(`k${key}`);
    const of = key === KEYS - 1 ? null : this.versionOf(ORGANIZATION);
    if (!own.alive || of?.alive === false) return undefined;
    const organization = of === null ? null : ORGANIZATION;
    return aCredential({
      keyId: `k${key}`,
      version: own.version,
      organizationId: organization,
      organizationVersion: of?.version ?? 0,
    });
  }

  /** Ends a key or the organization, or brings it back; every change is announced. */
  private change({ target, storeAfter, pushAfter }: Extract<Happening, { what: 'change' }>): void {
    const id = target === KEYS ? ORGANIZATION : `k${target}`;
    const state = this.versionOf(id);
    state.version++;
    state.alive = !state.alive;
    const invalidation: Invalidation = { id, version: state.version, inflight: 'cut' };
    const force = { invalidation, at: Infinity };
    this.inForce.push(force);
    this.atWorld(storeAfter, () => {
      this.store({ invalidation });
      force.at = Math.min(force.at, this.now + EVIDENCE_MS + EVIDENCE_MARGIN_MS);
    });
    if (pushAfter === null) return;
    this.atGateway(pushAfter, () => {
      this.gateway.invalidate(invalidation);
      force.at = Math.min(force.at, this.now);
    });
  }

  private versionOf(id: string) {
    const known = this.versions.get(id) ?? { version: 1, alive: true };
    this.versions.set(id, known);
    return known;
  }

  private store(message: Message): void {
    this.stored.push(message);
    this.deliver();
  }

  /** In order; what a lost consumer was not given, the next one is. */
  private deliver(): void {
    const { consumer } = this;
    while (consumer.alive && consumer.position < this.stored.length) {
      const message = this.stored[consumer.position++]!;
      this.deliveredUntil = Math.max(this.deliveredUntil, this.now + this.feedDelay);
      const position = consumer.position;
      this.atGateway(this.deliveredUntil - this.now, () => {
        if (!consumer.alive) {
          // It did not get this far.
          consumer.position = Math.min(consumer.position, position - 1);
          return;
        }
        if ('invalidation' in message) this.gateway.invalidate(message.invalidation);
        else if (this.sent.delete(message.barrier)) this.gateway.barrierReturned(message.barrier);
      });
    }
  }

  private follow(): void {
    this.consumer = { alive: true, position: this.consumer.position };
    this.sent.clear();
    this.gateway.followingFrom();
    this.deliver();
  }

  private barrier(): void {
    const sentAt = this.now - this.asleep;
    this.sent.add(sentAt);
    this.atWorld(1, () => this.store({ barrier: sentAt }));
    this.atGateway(500, () => this.barrier());
  }

  private atWorld(after: number, run: () => void): void {
    this.push(this.now + after, 'world', run);
  }

  private atGateway(after: number, run: () => void): void {
    this.push(this.now + after, 'gateway', run);
  }

  private push(at: number, where: Due['where'], run: () => void): void {
    this.queue.push({ at, n: this.n++, where, run });
  }
}

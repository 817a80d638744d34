import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { invalidationSchema, type Invalidation } from '@sluice/contracts/auth';
import { KEYFEED, keyfeedBarrierSubject } from '@sluice/contracts/subjects';
import type { Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor } from '@sluice/service-kit';
import type { Keys } from './keys.service.js';
import type { Membership } from './membership.service.js';

const BARRIER_EVERY_MS = 500;
const KEY_PREFIX = 'keyfeed.key.';
/** Barriers not yet back; older ones are given up. */
const MAX_BARRIERS = 16;

/**
 * Follows the key feed and keeps the feed lease: a nonce published on our own barrier subject that comes back through
 * our own consumer proves that everything published before it has been seen.
 */
@Injectable()
export class KeyFeed implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('key-feed');
  private readonly sent = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;
  private consumer: { close(): void } | undefined;
  private barrierSubject: string | undefined;

  constructor(
    private readonly messaging: Messaging,
    private readonly keys: Keys,
    private readonly membership: Membership,
  ) {}

  onModuleInit(): void {
    const { projection } = this.keys;
    this.consumer = this.messaging.orderedConsumer(KEYFEED, {
      filter: 'keyfeed.>',
      start: 'new',
      onReset: ({ generation, reason }) => {
        this.sent.clear();
        projection.followingFrom();
        this.log.info({ generation, reason }, 'following the key feed');
        this.sendBarrier();
      },
      onLost: (reason) => {
        projection.stoppedFollowing();
        this.log.warn({ reason }, 'lost the key feed: keys are verified one by one');
      },
      onMessage: ({ subject, data }) => this.take(subject, data),
    });
    this.timer = setInterval(() => this.sendBarrier(), BARRIER_EVERY_MS);
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
    this.consumer?.close();
  }

  private take(subject: string, data: Uint8Array): void {
    if (subject.startsWith(KEY_PREFIX)) {
      const invalidation = readInvalidation(subject, data);
      // Auth gives up a silent gateway by voiding its boot id like a key: no barrier behind this may bring a lease.
      this.membership.renew(invalidation.id);
      this.keys.invalidate(invalidation);
    } else if (subject === this.barrierSubject) {
      const nonce = Buffer.from(data).toString('utf8');
      const sentAt = this.sent.get(nonce);
      this.sent.delete(nonce);
      if (sentAt !== undefined) this.keys.projection.barrierReturned(sentAt);
    }
  }

  private sendBarrier(): void {
    const boot = this.membership.current;
    if (boot === undefined || !this.messaging.connected) return;
    this.barrierSubject = keyfeedBarrierSubject(boot);
    const nonce = systemId();
    if (this.sent.size >= MAX_BARRIERS) this.sent.delete(this.sent.keys().next().value!);
    this.sent.set(nonce, systemClock.monotonic());
    this.messaging
      .publish(this.barrierSubject, nonce, { id: nonce, timeoutMs: 1_000 })
      .catch(() => this.sent.delete(nonce));
  }
}

/** What cannot be read is taken as the end of the key it names: never accept on doubt. */
function readInvalidation(subject: string, data: Uint8Array): Invalidation {
  try {
    return invalidationSchema.parse(JSON.parse(Buffer.from(data).toString('utf8')));
  } catch {
    return { id: subject.slice(KEY_PREFIX.length), version: Number.MAX_SAFE_INTEGER, inflight: 'cut' };
  }
}

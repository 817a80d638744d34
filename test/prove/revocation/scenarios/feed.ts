import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lane } from '../pipe.ts';
import type { Scenario } from './stage.ts';

const LATE_MS = 1_800;

/** Races of the feed, its lease and the generations. */
export const FEED: readonly Scenario[] = [
  {
    name: 'stopped-gateway',
    about: 'a gateway is stopped, its key is revoked, and it wakes with requests in its sockets',
    async play(stage) {
      const { a, c } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      c.process.kill('SIGSTOP');
      const waiting = [stage.call(subject, c), stage.call(subject, c)];
      await stage.revokeUnheardBy(subject);
      waiting.push(stage.call(subject, c), stage.call(subject, c));
      const stop = stage.hammer(subject, c);
      c.process.kill('SIGCONT');
      await sleep(1_000);
      await stop();
      await Promise.all(waiting);
    },
  },
  {
    name: 'stopped-deaf-gateway',
    about: 'the same, and neither feed nor push reaches it when it wakes',
    async play(stage) {
      const { a, c } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      stage.deafen(c);
      c.process.kill('SIGSTOP');
      await stage.revokeUnheardBy(subject);
      const waiting = [stage.call(subject, c), stage.call(subject, c)];
      const stop = stage.hammer(subject, c);
      c.process.kill('SIGCONT');
      await sleep(800);
      await stop();
      await Promise.all(waiting);
    },
  },
  {
    name: 'sleeping-machine',
    about: 'the same on a machine whose monotonic clock stands still while it sleeps: only the wall clock tells',
    async play(stage) {
      const { a, c } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      stage.deafen(c);
      const { restarts } = c.process;
      c.process.kill('SIGWINCH');
      await sleep(100);
      c.process.kill('SIGSTOP');
      await stage.revokeUnheardBy(subject);
      const waiting = [stage.call(subject, c), stage.call(subject, c)];
      const stop = stage.hammer(subject, c, 20);
      c.process.kill('SIGCONT');
      await sleep(800);
      await stop();
      await Promise.all(waiting);
      if (c.process.restarts > restarts) stage.problem('the gateway did not live through it');
      // With a clock like the others' again.
      c.process.kill('SIGKILL');
      await sleep(500);
    },
  },
  {
    name: 'deaf-gateway',
    about: 'neither feed nor push reaches a gateway that is used all the time',
    async play(stage) {
      const { a, c } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      const stop = stage.hammer(subject, c);
      stage.deafen(c);
      await stage.revokeUnheardBy(subject);
      await sleep(1_000);
      await stop();
    },
  },
  {
    name: 'late-feed',
    about: 'the feed is late by almost L, and breaks between a barrier and the invalidation behind it',
    async play(stage) {
      const { a, c, cluster } = stage;
      const { nats, push } = c.links;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      // A barrier whose publish is not acknowledged within a second would be given up: only deliveries are late.
      nats.down.deliveriesOnly = true;
      nats.cut();
      await sleep(500);
      await cluster.whenLeased();
      // Step by step, or the gateway takes the first gap for a broken feed.
      for (let delay = 100; delay <= LATE_MS; delay += 100) {
        nats.down.delayMs = delay;
        await sleep(150);
      }
      await sleep(LATE_MS + 500);
      push.hold();
      nats.down.holdBefore = `MSG keyfeed.key.${subject.victim.id}`;
      const stop = stage.hammer(subject, c, 25);
      await seen(nats.up, 'keyfeed.barrier.');
      await stage.revokeUnheardBy(subject);
      await sleep(1_500);
      await stop();
      nats.down.deliveriesOnly = false;
      nats.cut();
    },
  },
  {
    name: 'feed-made-anew',
    about: 'a gateway is cut off, and the stream is lost and made anew before it comes back',
    async play(stage) {
      const { a, c, cluster } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      stage.deafen(c);
      await stage.revokeUnheardBy(subject);
      const admin = new URL(cluster.stack.natsUrl('admin'));
      const nc = await connect({ servers: admin.host, user: admin.username, pass: admin.password });
      await (await jetstreamManager(nc)).streams.delete('KEYFEED');
      await nc.close();
      c.links.nats.cut();
      c.links.nats.heal();
      const stop = stage.hammer(subject, c, 60);
      await cluster.whenLeased();
      await sleep(1_000);
      await stop();
    },
  },
];

/** Resolves when this text passes. */
function seen(lane: Lane, text: string): Promise<void> {
  const { tap } = lane;
  return new Promise((resolve) => {
    lane.tap = (bytes) => {
      tap?.(bytes);
      if (!bytes.includes(text)) return;
      lane.tap = tap;
      resolve();
    };
  });
}

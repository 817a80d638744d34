import { setTimeout as sleep } from 'node:timers/promises';
import type { Scenario } from './stage.ts';

/** Races of the revoke itself with what it waits for. */
export const PROCEDURE: readonly Scenario[] = [
  {
    name: 'auth-without-broker',
    about: 'auth can neither publish nor reach one gateway, whose feed lease goes on: nothing but "pending" is true',
    async play(stage) {
      const { a, c, cluster } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      const stop = stage.hammer(subject, c);
      cluster.authNats.hold();
      c.links.push.hold();
      const first = await stage.revoke(subject);
      if (first.said !== 'pending') stage.problem(`the first revoke says ${first.said}`);
      const second = await stage.revoke(subject);
      if (second.said !== 'pending') stage.problem(`its repetition says ${second.said}`);
      // Whoever goes on with it in the background does not know more.
      for (let times = 0; times < 12; times++) {
        const said = await stage.status(subject);
        if (said === 'in force') stage.problem('it is said to be in force');
        await sleep(250);
      }
      cluster.heal();
      await stage.revokeUntilInForce(subject);
      await sleep(500);
      await stop();
    },
  },
  {
    name: 'address-taken',
    about: 'another process answers at the address of a gateway that lives on, deaf',
    async play(stage) {
      const { a, c } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      const stop = stage.hammer(subject, c);
      const { nats, push } = c.links;
      const own = push.target;
      push.target = a.links.push.target;
      push.cut();
      nats.down.hold();
      await stage.revokeUnheardBy(subject);
      await sleep(500);
      await stop();
      push.target = own;
      push.cut();
    },
  },
  {
    name: 'late-broker',
    about: 'the broker hears of the revoke two seconds after the commit: the wait counts from there',
    async play(stage) {
      const { a, c, cluster } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      const stop = stage.hammer(subject, c);
      cluster.authNats.hold();
      c.links.push.hold();
      const revoked = stage.revokeUntilInForce(subject);
      await sleep(2_000);
      // From here on the gateway would hear of it, if its own feed did not break at the same time.
      c.links.nats.down.hold();
      cluster.authNats.heal();
      await revoked;
      await sleep(1_500);
      await stop();
    },
  },
];

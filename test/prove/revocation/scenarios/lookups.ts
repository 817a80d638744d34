import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { eventually } from '../../../stack.ts';
import type { Scenario } from './stage.ts';

/** Evidence of a gateway that is cut off has ended after this: L + margin and some more. */
const EVIDENCE_OVER_MS = 2_700;
/** The silence after which a gateway is given up, and all that has to be waited for then. */
const RETIRED_MS = 60_000;

/** Races of look-ups with a revoke, and of membership. */
export const LOOKUPS: readonly Scenario[] = [
  {
    name: 'held-lookup',
    about: 'the answer of a look-up is on its way while the key is revoked and the gateway confirms by push',
    async play(stage) {
      const { c } = stage;
      await stage.warm(await stage.subject('short'), c);
      const subject = await stage.subject('short');
      c.links.auth.down.hold();
      const call = stage.call(subject, c);
      await sleep(200);
      await stage.revoke(subject);
      c.links.auth.down.release();
      const stop = stage.hammer(subject, c);
      await sleep(500);
      await stop();
      await call;
      await stage.revokeUntilInForce(subject);
    },
  },
  {
    name: 'held-lookup-by-feed',
    about: 'the same, but only the feed tells the gateway; its lease goes on, and covers what it has cached',
    async play(stage) {
      const { c } = stage;
      await stage.warm(await stage.subject('short'), c);
      const subject = await stage.subject('short');
      c.links.push.hold();
      c.links.auth.down.hold();
      const call = stage.call(subject, c);
      await sleep(200);
      const revoked = stage.revokeUnheardBy(subject);
      // Before the look-up gives up, and after the feed has brought the invalidation.
      await sleep(1_200);
      c.links.auth.down.release();
      const stop = stage.hammer(subject, c);
      await revoked;
      await sleep(500);
      await stop();
      await call;
    },
  },
  {
    name: 'late-lookup',
    about: 'without a feed, a look-up is answered before the revoke and arrives long after it',
    async play(stage) {
      const { c } = stage;
      await stage.warm(await stage.subject('short'), c);
      const subject = await stage.subject('short');
      stage.deafen(c);
      await sleep(EVIDENCE_OVER_MS);
      c.links.auth.down.delayMs = 1_600;
      const call = stage.call(subject, c);
      await sleep(150);
      const revoked = stage.revokeUnheardBy(subject);
      const stop = stage.hammer(subject, c);
      await sleep(1_700);
      c.links.auth.down.delayMs = 0;
      await revoked;
      await sleep(1_200);
      await stop();
      await call;
    },
  },
  {
    name: 'retired-gateway',
    about: 'auth has given a gateway up that was cut off for long; it comes back and asks under its old id',
    async play(stage) {
      const { a, c, cluster } = stage;
      const subject = await stage.subject('short');
      await stage.warm(subject, a, c);
      c.links.nats.hold();
      c.links.push.hold();
      c.links.auth.hold();
      await retired(cluster.stack.databases.auth, c.links.push.port);
      c.links.auth.heal();
      await stage.warm(subject, c);
      const stop = stage.hammer(subject, c);
      await stage.revokeUntilInForce(subject);
      await sleep(2_500);
      await stop();
    },
  },
];

/** Resolves when auth's reaper has retired the gateway at this address. @throws Error when that takes too long */
async function retired(database: string, port: number): Promise<void> {
  const client = new Client({ connectionString: database });
  await client.connect();
  try {
    const text = 'select 1 from gateways where retired_at is null and url like $1';
    await eventually(async () => (await client.query(text, [`%:${port}`])).rowCount === 0, RETIRED_MS);
  } finally {
    await client.end();
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import { progressOf } from '../../load/replay/progress.ts';
import type { Random } from '../runner/random.ts';
import { send, type Seen } from './client.ts';
import type { Cluster } from './cluster.ts';
import type { Faults } from './faults.ts';
import { longOrderOf, orderOf } from './mix.ts';

const AT_ONCE = 24;
/** A gateway that is just starting refuses connections: nothing was sent to it. */
const REFUSED = 'ECONNREFUSED';
/** Streams of which pieces have come before anything is killed. */
const LASTING = 3;
const LASTING_PIECES = 4;
const LASTING_FROM = 1_000_000_000;

export interface LoadOptions {
  readonly requests: number;
  readonly keys: readonly { readonly id: string; readonly secret: string }[];
  readonly random: Random;
  readonly over: () => boolean;
  readonly quiet: boolean;
}

/** Sends requests of all kinds to all gateways, and has the faults happen that are due before each. */
export async function sendAll(cluster: Cluster, faults: Faults, options: LoadOptions): Promise<Seen[]> {
  const { requests, keys, random, over } = options;
  const run = Math.floor(random.between(0, 2 ** 32));
  const progress = options.quiet ? undefined : progressOf('requests', requests);
  const seen: Seen[] = [];
  let begun = 0;
  let long = 0;
  const lasting: Promise<void>[] = [];
  faults.beforeKill = async (victim) => {
    const chance = random.fork(`lasting ${long}`);
    await Promise.all(
      Array.from({ length: LASTING }, async () => {
        const order = longOrderOf(LASTING_FROM + long++, run, cluster.stack.models, chance);
        const gateway = victim === undefined ? chance.pick(cluster.gateways) : cluster.gateways[victim]!;
        await new Promise<void>((resolve) => {
          const one = send(gateway, order, keys[order.key]!, (pieces) => pieces >= LASTING_PIECES && resolve());
          // One that fails keeps nobody waiting.
          lasting.push(one.then((seenOne) => void seen.push(seenOne)).finally(resolve));
        });
      }),
    );
  };
  const slot = async (chance: Random): Promise<void> => {
    while (begun < requests && !over()) {
      const index = begun++;
      const order = orderOf(index, run, cluster.stack.models, keys.length, random.fork(`request ${index}`));
      await faults.due(index);
      let gateway = Math.floor(chance.between(0, cluster.gateways.length));
      let one: Seen;
      do {
        one = await send(cluster.gateways[gateway]!, order, keys[order.key]!);
        gateway = (gateway + 1) % cluster.gateways.length;
        if (one.failure === REFUSED) await sleep(50);
      } while (one.failure === REFUSED);
      seen.push(one);
      progress?.set(seen.length, summary(seen, faults));
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, requests) }, (_, i) => slot(random.fork(`slot ${i}`))));
  await faults.over();
  await Promise.all(lasting);
  progress?.end();
  return seen;
}

function summary(seen: readonly Seen[], { counts }: Faults): string {
  const broken = Object.entries(counts).map(([victim, count]) => `${count} × ${victim}`);
  return `${seen.filter(({ whole }) => whole).length} whole; ${broken.join(', ')}`;
}

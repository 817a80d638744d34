import { createKeys, readAvailable } from '../../load/replay/management.ts';
import type { Random } from '../runner/random.ts';
import { readAccounts, type Accounts } from './accounts.ts';
import { check, type Checked, type Finding } from './check.ts';
import type { Seen } from './client.ts';
import type { Cluster } from './cluster.ts';
import { Faults } from './faults.ts';
import { sendAll } from './load.ts';
import { planOf } from './plan.ts';
import { settle } from './settle.ts';

const KEYS = 5;

export interface Played {
  readonly seen: readonly Seen[];
  readonly checked: Checked;
  readonly accounts: Accounts;
  readonly faults: Readonly<Record<string, number>>;
  readonly unfinishedJournals: number;
  /** What left the organization's balance, pico-USD. */
  readonly taken: bigint;
  readonly seconds: number;
}

export interface PlayOptions {
  readonly requests: number;
  readonly natsAwayMs: number;
  readonly random: Random;
  readonly over: () => boolean;
  readonly quiet: boolean;
}

/** Load and faults, then everybody's account of them side by side. */
export async function play(cluster: Cluster, options: PlayOptions): Promise<Played> {
  const { requests, natsAwayMs, random, over, quiet } = options;
  const { stack } = cluster;
  const keys = await createKeys(stack.demo, random.seed.toString(16), KEYS);
  const keyIds = keys.map(({ id }) => id);
  const before = await readAvailable(stack.demo);
  const faults = new Faults(cluster, planOf(requests, random.fork('faults')), natsAwayMs);
  const began = performance.now();
  const seen = await sendAll(cluster, faults, { requests, keys, random: random.fork('load'), over, quiet });
  const seconds = Math.round((performance.now() - began) / 1_000);
  await settle(cluster, keyIds, quiet);
  const accounts = await readAccounts(cluster, keyIds);
  const taken = before - accounts.available;
  const checked = check(seen, accounts, ({ gateway, endedAt }) => faults.lostBoth(gateway, endedAt));
  return {
    seen,
    checked: { ...checked, findings: [...checked.findings, ...balanceOf(accounts, taken)] },
    accounts,
    faults: faults.counts,
    unfinishedJournals: cluster.unfinishedJournals(),
    taken,
    seconds,
  };
}

/** The balance has gone down by what the charges say, and by nothing else. */
function balanceOf({ sums }: Accounts, taken: bigint): Finding[] {
  const charged = BigInt(sums['charges']?.pico ?? 0);
  if (charged === taken) return [];
  return [{ kind: 'doubled', requestId: '', what: `${charged} pico-USD are charged, ${taken} left the balance` }];
}

import { formatSecret } from '@sluice/primitives/secret';
import { Pool } from 'undici';
import { progressOf } from '../../load/replay/progress.ts';
import type { Random } from '../../prove/runner/random.ts';

const CONCURRENCY = 32;

export interface Refused {
  readonly lookups: number;
  readonly counted: number;
  readonly perSecond: number;
}

/** Sends junk of every kind to a real gateway, and reads its own counters before and after. */
export async function sendJunk(
  baseUrl: string,
  { count, random, stopping }: { readonly count: number; readonly random: Random; readonly stopping: AbortSignal },
): Promise<Refused> {
  const pool = new Pool(baseUrl, { connections: CONCURRENCY });
  const before = await counters(baseUrl);
  const progress = progressOf('junk', count);
  const from = performance.now();
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count && !stopping.aborted) {
      const key = junk(next++, random);
      const { statusCode, body } = await pool.request({
        method: 'GET',
        path: '/v1/key',
        headers: { 'x-api-key': key },
      });
      await body.dump();
      if (statusCode !== 401) throw new Error(`junk was answered with ${statusCode}`);
      progress.set(next);
    }
  };
  try {
    await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  } finally {
    progress.end();
    await pool.close();
  }
  const seconds = (performance.now() - from) / 1000;
  const after = await counters(baseUrl);
  return {
    lookups: after.lookups - before.lookups,
    counted: after.junk - before.junk,
    perSecond: Math.round(count / seconds),
  };
}

/** What scanners and slips of the hand send: another prefix, a wrong length, one wrong character, nothing of a key at all. */
function junk(i: number, random: Random): string {
  const good = formatSecret(
    'sk_live_',
    Uint8Array.from({ length: 32 }, () => Math.floor(random.next() * 256)),
  );
  const last = good.at(-1) === '0' ? '1' : '0';
  const kinds = [
    good.slice(0, -1) + last,
    good.slice(0, -1),
    `${good}0`,
    good.replace('sk_live_', 'sk_test_'),
    `junk-${i}`,
  ];
  return kinds[i % kinds.length]!;
}

async function counters(baseUrl: string): Promise<{ lookups: number; junk: number }> {
  const text = await (await fetch(`${baseUrl}/metrics`)).text();
  const sum = (name: string) =>
    text
      .split('\n')
      .filter((line) => line.startsWith(name))
      .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  return { lookups: sum('gateway_key_lookups_total'), junk: sum('gateway_junk_credentials_total') };
}

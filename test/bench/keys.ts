// How dear keys are: a million of them in the database and in a gateway's memory, and junk that must cost nothing.
import { startTestStack } from '../stack.ts';
import type { Program } from '../prove/runner/program.ts';
import { wholeNumber } from '../prove/runner/program.ts';
import { sendJunk } from './keys/junk.ts';
import { coldLookups } from './keys/lookups.ts';
import { cachedKeys } from './keys/memory.ts';
import { seedKeys } from './keys/seed.ts';

const MAX_KEYS = 5_000_000;
const COLD_P99_MS = 10;
const CACHED_MB = 400;

export const program: Program = {
  about: 'issued keys: a cold look-up, the memory of a gateway that knows them all, and what junk costs',
  options: {
    keys: { type: 'string', default: '1000000' },
    lookups: { type: 'string', default: '20000' },
    concurrency: { type: 'string', default: '2' },
    junk: { type: 'string', default: '100000' },
  },
  usage: [
    '  --keys N         issued keys in the database, and cached keys in a gateway (1000000)',
    '  --lookups N      cold look-ups (20000)',
    '  --concurrency N  of them under way at once (2; the more, the longer each waits for a core)',
    '  --junk N         junk keys sent to a gateway (100000)',
  ].join('\n'),
  async run(run) {
    const { values, random, stopping } = run;
    const keys = wholeNumber('keys', values['keys'], 1_000, MAX_KEYS);
    const lookups = wholeNumber('lookups', values['lookups'], 100, keys);
    const concurrency = wholeNumber('concurrency', values['concurrency'], 1, 1_000);
    const junk = wholeNumber('junk', values['junk'], 100, 10_000_000);

    // Before the stack: its processes would press on the same memory.
    const memory = await cachedKeys(keys, stopping);
    run.say(`${keys} cached keys: ${memory.moreMB} MB more than with few, ${memory.profiles} sets of rights`);

    const stack = await startTestStack({
      workers: 1,
      // The canary's key is looked up, too.
      rewire: (program) =>
        program.name === 'auth' ? { ...program, env: { ...program.env, CANARY_SECONDS: '0' } } : program,
    });
    try {
      await seedKeys(stack.databases.auth, keys, stopping);
      const cold = await coldLookups(stack, { keys, lookups, concurrency, random, stopping });
      run.say(`${lookups} cold look-ups, ${concurrency} at once: p50 ${cold.p50Ms} ms, p99 ${cold.p99Ms} ms`);
      const refused = await sendJunk(stack.baseUrl, { count: junk, random, stopping });
      run.say(`${junk} junk keys: ${refused.perSecond}/s, ${refused.lookups} look-ups`);
      return {
        figures: { keys, lookups, concurrency, memory, cold, junk: { sent: junk, ...refused } },
        goals: {
          coldLookupP99Ms: { goal: `< ${COLD_P99_MS}`, value: cold.p99Ms, ok: cold.p99Ms < COLD_P99_MS },
          cachedKeysMB: { goal: `≤ ${CACHED_MB}`, value: memory.moreMB, ok: memory.moreMB <= CACHED_MB },
          junkLookups: { goal: '0', value: refused.lookups, ok: refused.lookups === 0 },
          junkCounted: { goal: 'all of them', value: refused.counted, ok: refused.counted === junk },
        },
      };
    } finally {
      await stack.stop();
    }
  },
};

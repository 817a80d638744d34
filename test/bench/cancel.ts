// npm run bench -- cancel: how long a worker works on for a client that has gone.
import { credit, issueKey } from './gateway/keys.ts';
import { Leaver, type How } from './cancel/leaver.ts';
import { WatchedWorker, type Way } from './cancel/watched-worker.ts';
import { latency } from '../prove/revocation/report.ts';
import { wholeNumber, type Program } from '../prove/runner/program.ts';
import { startTestStack } from '../stack.ts';

const GOAL_MS = 100;
const WARM_UP = 20;
const WAYS: Readonly<Record<Way, string>> = {
  rest: 'in the middle of a stream',
  hold: 'before the first byte',
  half: 'in the middle of a whole answer',
  flood: 'behind a client that reads nothing',
};
const HOWS: readonly How[] = ['close', 'half', 'reset'];
/** A flood is waited for until it stands still: fewer of them. */
const FLOODS_SHARE = 0.05;

export const program: Program = {
  about: 'milliseconds from a client that goes, in every way there is, until its worker is told',
  options: { times: { type: 'string', default: '100' } },
  usage: '  --times N      of each way to go, at each point of an answer (100)',
  async run({ values, say, stopping }) {
    const times = wholeNumber('times', values['times'], 1, 100_000);
    const stack = await startTestStack({ workers: 0, prefer: 'local' });
    let worker: WatchedWorker | undefined;
    try {
      worker = await WatchedWorker.start(stack);
      await credit(stack);
      const { secret } = await issueKey(stack);
      let id = 0;
      const once = async (way: Way, how: How): Promise<number> => {
        const leaver = new Leaver(stack, secret, worker!, way, id++);
        await leaver.midway();
        return (await leaver.leave(how)).afterMs;
      };
      for (let i = 0; i < WARM_UP; i++) await once('rest', 'close');
      const all: number[] = [];
      const figures: Record<string, object> = {};
      for (const way of Object.keys(WAYS) as Way[]) {
        for (const how of HOWS) {
          const own: number[] = [];
          const wanted = way === 'flood' ? Math.ceil(times * FLOODS_SHARE) : times;
          for (let i = 0; i < wanted && !stopping.aborted; i++) own.push(await once(way, how));
          all.push(...own);
          figures[`${way} ${how}`] = latency(own);
          say(`${WAYS[way]}, ${how}: ${JSON.stringify(figures[`${way} ${how}`])}`);
        }
      }
      const { n, p50, p99, max } = latency(all);
      return {
        figures: { n, p50Ms: p50, p99Ms: p99, maxMs: max, ways: figures },
        goals: { cancelled: { goal: `p99 <= ${GOAL_MS} ms`, value: p99, ok: p99 !== null && p99 <= GOAL_MS } },
      };
    } finally {
      await worker?.stop();
      await stack.stop();
    }
  },
};

import type { Goal, Run, Verdict } from '../runner/program.ts';
import type { Random } from '../runner/random.ts';
import type { Mutant } from './mutants.ts';
import { playLimits } from './play.ts';
import { timesOf } from './times.ts';
import { verdictOn } from './verdict.ts';

/** A minute of this many seconds, and two of them of load. */
const WINDOW_SECONDS = 8;
const SECONDS = 18;
const KEYS = 30;
const LOST_MS = 2_500;
/** Of a machine, not of the code: a mutant is found by none of them. */
const BY_SPEED = new Set(['freedMs', 'byRedis', 'tried', 'killed', 'byAllGateways']);

/** The scene that should notice, with each rule switched off in turn. */
export async function huntMutants(mutants: readonly Mutant[], random: Random, run: Run): Promise<Verdict> {
  const found: Record<string, string> = {};
  const goals: Record<string, Goal> = {};
  for (const [i, { name, without, patches, scene }] of mutants.entries()) {
    if (run.stopping.aborted) break;
    const from = performance.now();
    const times = timesOf(WINDOW_SECONDS);
    const played = await playLimits({
      scenes: [scene],
      keys: KEYS,
      seconds: SECONDS,
      lostMs: LOST_MS,
      times,
      patches,
      random: random.fork(name),
      stopping: run.stopping,
      say: () => {},
      quiet: true,
    });
    const { goals: own, faults } = verdictOn(played, times);
    const missed = Object.entries(own).filter(([goal, { ok }]) => !ok && !BY_SPEED.has(goal));
    const by = missed.length === 0 ? 'nothing' : `${missed.map(([goal]) => goal).join(', ')}: ${faults[0] ?? ''}`;
    found[name] = by;
    goals[`mutant ${name}`] = { goal: `found by ${scene}`, value: by, ok: missed.length > 0 };
    const seconds = Math.round((performance.now() - from) / 1_000);
    run.say(
      `${missed.length > 0 ? '✓' : '✗'} ${i + 1}/${mutants.length} ${name} (without: ${without}), ${scene}: ${by}, ${seconds} s`,
    );
  }
  return { figures: { mutants: found }, goals };
}

// npm run prove -- limits: every limit holds in every window at three gateways, and is used; through crashes too.
import { mutantsNamed } from './runner/mutants.ts';
import { wholeNumber, UsageError, type Program } from './runner/program.ts';
import { huntMutants } from './limits/hunt.ts';
import { MUTANTS } from './limits/mutants.ts';
import { playLimits, SCENES, type Scene } from './limits/play.ts';
import { timesOf } from './limits/times.ts';
import { verdictOn } from './limits/verdict.ts';

/** Two windows and a part of a third: only then it is seen that a limit is there again. */
const SECONDS = 130;
const SHOWN = 20;

export const program: Program = {
  about: 'limits hold in every window at three gateways, and are used; no place is lost by a crash, none given twice',
  usage: `  --keys N       with random limits (default 50)
  --seconds N    of load (default ${SECONDS}); in the middle a gateway is killed
  --scenes X     of ${SCENES.join(', ')}, separated by commas; "all" is the default
  --lost N       seconds that Redis is away (default 10)
  --window N     seconds of a minute, for those who cannot wait: a changed copy of the build
  --mutants      with each rule of the limiter switched off instead: every one has to be found
  --mutants=X    the same for some of them, separated by commas`,
  options: {
    keys: { type: 'string', default: '50' },
    seconds: { type: 'string', default: String(SECONDS) },
    scenes: { type: 'string', default: 'all' },
    lost: { type: 'string', default: '10' },
    window: { type: 'string', default: '60' },
    mutants: { type: 'string' },
  },
  bare: { mutants: 'all' },
  async run(run) {
    const { values, random, say, stopping } = run;
    const asked = values['mutants'];
    if (asked !== undefined) return huntMutants(mutantsNamed(MUTANTS, String(asked)), random, run);
    const times = timesOf(wholeNumber('window', values['window'], 5, 60));
    const script = {
      times,
      scenes: scenesNamed(String(values['scenes'])),
      keys: wholeNumber('keys', values['keys'], 1, 1_000),
      seconds: wholeNumber('seconds', values['seconds'], 1, 86_400),
      lostMs: 1_000 * wholeNumber('lost', values['lost'], 1, 600),
      random,
      stopping,
      say,
    };
    say('starting PostgreSQL, NATS, Redis, five services and two more gateways');
    const { figures, goals, faults } = verdictOn(await playLimits(script), times);
    for (const fault of faults.slice(0, SHOWN)) say(`✗ ${fault}`);
    return { figures: { windowSeconds: times.windowMs / 1_000, seconds: script.seconds, ...figures }, goals };
  },
};

/** @throws UsageError */
function scenesNamed(names: string): readonly Scene[] {
  if (names === 'all') return SCENES;
  return names.split(',').map((name) => {
    const scene = SCENES.find((one) => one === name);
    if (!scene) throw new UsageError(`there is no scene ${name}; there are ${SCENES.join(', ')}`);
    return scene;
  });
}

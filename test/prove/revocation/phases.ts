import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../runner/random.ts';
import { progressOf } from '../../load/replay/progress.ts';
import type { Checker } from './checker.ts';
import type { Cluster } from './cluster.ts';
import { Desk } from './desk.ts';
import { Faults } from './faults.ts';
import type { Kind } from './kinds.ts';
import { Users, type Pace } from './load.ts';
import { Revoker, type Timed } from './revoker.ts';

const CALM: Pace = { beforeMs: 250, duringMs: 60, afterMs: [0, 0, 5, 30, 150, 600, 2_100] };
/** Longer than anything is stopped: the last calls meet gateways that have just woken up. */
const FAULTY: Pace = { beforeMs: 300, duringMs: 120, afterMs: [0, 0, 20, 100, 400, 1_000, 2_000, 3_500, 5_000, 6_500] };
const CALM_AT_ONCE = 4;
const FAULTY_AT_ONCE = 12;
const WARM_MS = 700;
/** L, in which a gateway asks once, and the deadline of a look-up. */
const ASKED_MS = 4_000;

export interface PhaseFigures {
  readonly revokes: number;
  readonly times: readonly Timed[];
  readonly hinderedTimes: readonly Timed[];
  readonly pending: number;
  readonly confirmedLater: number;
  readonly failed: Readonly<Record<string, number>>;
  readonly unconfirmed: number;
  readonly kinds: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
}

export interface PhaseOptions {
  readonly name: 'warm-up' | 'calm' | 'faults';
  readonly revokes: number;
  readonly kinds: readonly Kind[];
  readonly random: Random;
  readonly quiet?: boolean;
  /** Looked at before each victim. */
  readonly over: () => boolean;
}

/** Victims of all kinds, each used at all gateways from before its revoke until well after it. */
export async function runPhase(cluster: Cluster, checker: Checker, options: PhaseOptions): Promise<PhaseFigures> {
  const { name, revokes, kinds, random, over } = options;
  checker.where = name;
  const faults = name === 'faults' && revokes > 0 ? new Faults(cluster, random.fork('faults')) : undefined;
  const desk = new Desk(cluster, random.fork('desk'), (gateway) => faults?.avoids(gateway) ?? false);
  const revoker = new Revoker(desk, checker, faults);
  const progress = options.quiet === true ? undefined : progressOf(name, revokes);
  const made: Record<string, number> = {};
  const users: Users[] = [];
  let begun = 0;
  let done = 0;

  const one = async (chance: Random): Promise<void> => {
    const kind = chooseKind(kinds, chance);
    const victim = checker.add(kind.name, await kind.make(desk));
    const its = new Users(cluster, victim, kind, checker, chance, faults ? FAULTY : CALM);
    users.push(its);
    await sleep(chance.between(0.4, 1.3) * WARM_MS);
    its.revoking = true;
    await revoker.revoke(victim, kind, chance);
    if (victim.deadAt === undefined) its.abandon();
    made[kind.name] = (made[kind.name] ?? 0) + 1;
    progress?.set(++done, `${checker.calls.begun} calls, ${checker.found} violations`);
  };
  const slot = async (chance: Random): Promise<void> => {
    while (begun < revokes && !over()) {
      begun++;
      await one(chance);
    }
  };
  faults?.start();
  if (faults)
    checker.couldAsk = (gateway) => !faults.hindered(['auth', gateway.links.auth.name], performance.now() - ASKED_MS);
  try {
    const slots = Math.min(revokes, faults ? FAULTY_AT_ONCE : CALM_AT_ONCE);
    await Promise.all(Array.from({ length: slots }, (_, i) => slot(random.fork(`slot ${i}`))));
  } finally {
    await faults?.stop();
    checker.couldAsk = () => true;
    await Promise.all(users.map((its) => its.finished()));
    progress?.end();
  }
  const { times, hinderedTimes, pending, confirmedLater, failed, unconfirmed } = revoker;
  return {
    revokes: done,
    times,
    hinderedTimes,
    pending,
    confirmedLater,
    failed,
    unconfirmed,
    kinds: made,
    faults: faults?.counts ?? {},
  };
}

function chooseKind(kinds: readonly Kind[], chance: Random): Kind {
  let at = chance.between(
    0,
    kinds.reduce((sum, { share }) => sum + share, 0),
  );
  return kinds.find(({ share }) => (at -= share) < 0) ?? kinds[0]!;
}

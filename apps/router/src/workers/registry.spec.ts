import { beforeEach, describe, expect, it } from '@jest/globals';
import { HEARTBEAT_GONE_MS, type WorkerHeartbeat } from '@sluice/contracts/router';
import {
  FAILURES_TO_OPEN,
  FORGET_AFTER_MS,
  MAX_WORKERS,
  PROBE_EVERY_MS,
  Registry,
  SUSPECT_PROBE_EVERY_MS,
  TRIAL_EVERY_AT_MOST_MS,
  TRIAL_EVERY_MS,
} from './registry.js';

const URL_A = 'http://127.0.0.1:8001';
const beat = (id = 'a', models = ['m']): WorkerHeartbeat => ({
  id,
  url: 'unused: the registry gets what the allow-list accepted',
  models: models.map((model) => ({ id: model })),
  slots: 4,
  running: 0,
  waiting: 0,
  kvCacheUsage: 0,
  version: '1',
});

let registry: Registry;
beforeEach(() => {
  registry = new Registry();
});

const usable = (now: number, model = 'm') => registry.usable(model, 'openai', now).map(({ id }) => id);
const stateAt = (now: number) => registry.list(now)[0]?.state;

describe('a worker that is heard', () => {
  it('gets requests for the models it serves and for no others', () => {
    registry.heard(beat('a', ['m', 'org/n']), URL_A, 0);
    expect(usable(0)).toEqual(['a']);
    expect(usable(0, 'org/n')).toEqual(['a']);
    expect(usable(0, 'x')).toEqual([]);
  });

  it('is taken at its newest word when its models change', () => {
    registry.heard(beat('a', ['m']), URL_A, 0);
    registry.heard(beat('a', ['n']), URL_A, 1_000);
    expect(usable(1_000)).toEqual([]);
    expect(usable(1_000, 'n')).toEqual(['a']);
  });

  it('starts with a clean record when it comes back at another address', () => {
    registry.heard(beat(), URL_A, 0);
    registry.suspect('a');
    expect(registry.heard(beat(), 'http://127.0.0.1:9', 10)).toBe('moved');
    expect(usable(10)).toEqual(['a']);
    expect(registry.usable('m', 'openai', 10)[0]?.url).toBe('http://127.0.0.1:9');
  });

  it('is refused beyond the limit, so that forged ids cannot fill the memory', () => {
    for (let i = 0; i < MAX_WORKERS; i++) registry.heard(beat(`w${i}`), URL_A, 0);
    expect(registry.heard(beat('one-more'), URL_A, 0)).toBe('refused');
    expect(registry.heard(beat('w0'), URL_A, 0)).toBe('known');
  });
});

describe('silence', () => {
  const silentAt = HEARTBEAT_GONE_MS + 1;
  beforeEach(() => {
    registry.heard(beat(), URL_A, 0);
  });

  it('does not end a worker by itself: the bus may be what is silent', () => {
    expect(usable(silentAt)).toEqual(['a']);
    expect(stateAt(silentAt)).toBe('silent');
  });

  it('makes the worker be probed once a second, one probe at a time', () => {
    expect(registry.startProbes(HEARTBEAT_GONE_MS)).toEqual([]);
    expect(registry.startProbes(silentAt)).toMatchObject([{ id: 'a', url: URL_A }]);
    expect(registry.startProbes(silentAt + 10 * PROBE_EVERY_MS)).toEqual([]);
    registry.probed({ id: 'a', url: URL_A }, true, silentAt + 5);
    expect(registry.startProbes(silentAt + PROBE_EVERY_MS - 1)).toEqual([]);
    expect(registry.startProbes(silentAt + PROBE_EVERY_MS)).toHaveLength(1);
  });

  it('keeps a worker whose probe answers, and gives up one whose probe fails', () => {
    registry.startProbes(silentAt);
    registry.probed({ id: 'a', url: URL_A }, true, silentAt);
    expect(usable(silentAt)).toEqual(['a']);
    registry.startProbes(silentAt + PROBE_EVERY_MS);
    registry.probed({ id: 'a', url: URL_A }, false, silentAt + PROBE_EVERY_MS);
    expect(usable(silentAt + PROBE_EVERY_MS)).toEqual([]);
    expect(stateAt(silentAt + PROBE_EVERY_MS)).toBe('down');
  });

  it.each(['probe', 'heartbeat'])('a worker that was given up comes back by its next good %s', (how) => {
    registry.startProbes(silentAt);
    registry.probed({ id: 'a', url: URL_A }, false, silentAt);
    const later = silentAt + PROBE_EVERY_MS;
    if (how === 'heartbeat') expect(registry.heard(beat(), URL_A, later)).toBe('joined');
    else {
      expect(registry.startProbes(later)).toHaveLength(1);
      registry.probed({ id: 'a', url: URL_A }, true, later);
    }
    expect(usable(later)).toEqual(['a']);
  });

  it('a failed probe says nothing against a worker whose heartbeat came meanwhile', () => {
    registry.startProbes(silentAt);
    registry.heard(beat(), URL_A, silentAt + 1);
    registry.probed({ id: 'a', url: URL_A }, false, silentAt + 2);
    expect(usable(silentAt + 2)).toEqual(['a']);
  });

  it('the probe of an address the worker has left says nothing about the new one', () => {
    registry.startProbes(silentAt);
    registry.heard(beat(), 'http://127.0.0.1:9', silentAt + 1);
    registry.probed({ id: 'a', url: URL_A }, false, silentAt + 20_000);
    expect(usable(silentAt + 20_000)).toEqual(['a']);
  });

  it('a worker down for long is forgotten, with one that is probed well it is not', () => {
    registry.startProbes(silentAt);
    registry.probed({ id: 'a', url: URL_A }, false, silentAt);
    expect(registry.forget(FORGET_AFTER_MS)).toEqual([]);
    expect(registry.forget(FORGET_AFTER_MS + 1)).toEqual(['a']);
    expect(registry.list(0)).toEqual([]);
  });
});

describe('a worker that refused a connection', () => {
  beforeEach(() => {
    registry.heard(beat(), URL_A, 0);
    registry.suspect('a');
  });

  it('gets nothing until a probe answered, heartbeats or not', () => {
    expect(usable(0)).toEqual([]);
    registry.heard(beat(), URL_A, 100);
    expect(usable(100)).toEqual([]);
    registry.startProbes(100);
    registry.probed({ id: 'a', url: URL_A }, true, 110);
    expect(usable(110)).toEqual(['a']);
  });

  it('is probed at once, then several times a second, so that a restart costs little', () => {
    expect(registry.startProbes(1)).toHaveLength(1);
    registry.probed({ id: 'a', url: URL_A }, false, 2);
    expect(registry.startProbes(SUSPECT_PROBE_EVERY_MS)).toEqual([]);
    expect(registry.startProbes(1 + SUSPECT_PROBE_EVERY_MS)).toHaveLength(1);
  });
});

describe('a worker that answers its probes and fails its requests', () => {
  beforeEach(() => {
    registry.heard(beat(), URL_A, 0);
    for (let i = 1; i < FAILURES_TO_OPEN; i++) registry.failed('a', 0);
  });

  it('is used up to the threshold, then gets a trial only now and then', () => {
    expect(usable(0)).toEqual(['a']);
    registry.failed('a', 0);
    expect(usable(TRIAL_EVERY_MS - 1)).toEqual([]);
    expect(stateAt(0)).toBe('open');
    expect(usable(TRIAL_EVERY_MS)).toEqual(['a']);
    registry.dispatched('a', TRIAL_EVERY_MS);
    expect(usable(TRIAL_EVERY_MS)).toEqual([]);
    // A trial may run for minutes before its first byte: the next one does not wait for its end.
    expect(usable(2 * TRIAL_EVERY_MS)).toEqual(['a']);
  });

  it('is left alone longer with every failed trial, up to a bound', () => {
    for (let i = 0; i < 50; i++) registry.failed('a', 0);
    expect(usable(TRIAL_EVERY_AT_MOST_MS - 1)).toEqual([]);
    expect(usable(TRIAL_EVERY_AT_MOST_MS)).toEqual(['a']);
  });

  it('is whole again after one success', () => {
    registry.failed('a', 0);
    registry.succeeded('a');
    expect(usable(0)).toEqual(['a']);
    registry.dispatched('a', 0);
    expect(usable(0)).toEqual(['a']);
  });
});

describe('dialects', () => {
  const both = (id: string) => ({ ...beat(id), dialects: ['openai', 'messages', 'of tomorrow'] });
  const speaking = (dialect: 'openai' | 'messages') => registry.usable('m', dialect, 0).map(({ id }) => id);

  it('are asked only of workers that speak them; one that says nothing speaks OpenAI’s', () => {
    registry.heard(both('a'), URL_A, 0);
    registry.heard(beat('b'), URL_A, 0);
    registry.heard({ ...beat('c'), dialects: ['messages'] }, URL_A, 0);
    expect(speaking('messages')).toEqual(['a', 'c']);
    expect(speaking('openai')).toEqual(['a', 'b']);
  });

  it('of a model are those that all its workers speak, also one that is away for a moment, but none that is down', () => {
    const served = () => registry.served();
    expect(served()).toEqual([]);
    registry.heard(both('a'), URL_A, 0);
    expect(served()).toEqual([{ id: 'm', dialects: ['openai', 'messages', 'of tomorrow'] }]);
    registry.heard(beat('b', ['m', 'n']), 'http://127.0.0.1:8002', 0);
    registry.suspect('b');
    expect(served()).toEqual([
      { id: 'm', dialects: ['openai'] },
      { id: 'n', dialects: ['openai'] },
    ]);
    const later = HEARTBEAT_GONE_MS + 1;
    registry.heard(both('a'), URL_A, later);
    registry.startProbes(later);
    registry.probed({ id: 'b', url: 'http://127.0.0.1:8002' }, false, later);
    expect(served()).toEqual([{ id: 'm', dialects: ['openai', 'messages', 'of tomorrow'] }]);
  });
});

describe('a worker of the configuration', () => {
  beforeEach(() => {
    registry.fix({ id: 'a', url: URL_A, models: ['m'], slots: 4, dialects: ['openai'] }, 0);
  });

  it('is used from its first good probe on, and not from a failed one', () => {
    expect(usable(0)).toEqual([]);
    expect(registry.startProbes(0)).toHaveLength(1);
    registry.probed({ id: 'a', url: URL_A }, true, 1);
    expect(usable(1)).toEqual(['a']);
    expect(stateAt(60_000)).toBe('live');
    registry.startProbes(60_000);
    registry.probed({ id: 'a', url: URL_A }, false, 60_000);
    expect(usable(60_000)).toEqual([]);
  });

  it('keeps its address whatever a heartbeat says, and is never forgotten', () => {
    expect(registry.heard(beat(), 'http://127.0.0.1:9', 0)).toBe('refused');
    expect(registry.list(0)[0]?.url).toBe(URL_A);
    registry.startProbes(0);
    registry.probed({ id: 'a', url: URL_A }, false, 0);
    expect(registry.forget(10 * FORGET_AFTER_MS)).toEqual([]);
  });
});

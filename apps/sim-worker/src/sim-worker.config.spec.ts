import { describe, expect, it } from '@jest/globals';
import { simWorkerConfig } from './sim-worker.config.js';

const GOOD = {
  PORT: '0',
  WORKER_ID: 'w1',
  WORKER_SECRET: '0123456789abcdef',
  WORKER_MODELS: 'a/b, c',
  WORKER_LOG: '/tmp/x',
};

describe('the configuration', () => {
  it('reads lists, numbers and faults from texts', () => {
    const config = simWorkerConfig({ ...GOOD, SLOTS: '3', FAULTS: '{"errorStatus":500}' });
    expect([config.WORKER_MODELS, config.SLOTS, config.FAULTS]).toEqual([['a/b', 'c'], 3, { errorStatus: 500 }]);
  });

  it('names all that is wrong at once, and no value', () => {
    const wrong = { ...GOOD, WORKER_SECRET: 'tooshort', SLOTS: 'many', FAULTS: '{', WORKER_ID: 'a.b' };
    expect(() => simWorkerConfig(wrong)).toThrow(/WORKER_ID[^]*WORKER_SECRET[^]*SLOTS[^]*FAULTS/);
    expect(() => simWorkerConfig(wrong)).not.toThrow(/tooshort/);
  });
});

import { describe, expect, it } from '@jest/globals';
import { z } from 'zod';
import { ConfigError, defineConfig, json } from './config.js';

const read = defineConfig({
  PORT: z.coerce.number().int(),
  SECRET: z.string().min(10),
  SHAPE: json(z.object({ a: z.number() })).default({ a: 1 }),
});

describe('defineConfig', () => {
  it('reports every error at once, by name', () => {
    expect(() => read({ PORT: 'x', SECRET: 'hunter2', SHAPE: '{' })).toThrow(ConfigError);
    expect(() => read({ PORT: 'x', SECRET: 'hunter2', SHAPE: '{' })).toThrow(
      /PORT: [\s\S]*SECRET: [\s\S]*SHAPE: is not JSON/,
    );
  });

  it('never repeats a value: it may be a secret', () => {
    expect(() => read({ SECRET: 'hunter2' })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('hunter2') }),
    );
  });

  it('fills in defaults', () => {
    expect(read({ PORT: '1', SECRET: 'long enough' })).toEqual({ PORT: 1, SECRET: 'long enough', SHAPE: { a: 1 } });
  });
});

import { expect, it } from '@jest/globals';
import { OPERATIONS } from './operations.js';

it('each operation is there once: the first one that fits a path is taken', () => {
  const names = OPERATIONS.map(({ method, path }) => `${method} ${path.replaceAll(/:\w+/g, ':')}`);
  expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
});

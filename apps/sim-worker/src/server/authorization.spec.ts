import { describe, expect, it } from '@jest/globals';
import { bearerOf } from './authorization.js';

describe('the bearer secret', () => {
  const authorized = bearerOf('a-secret-of-some-length');

  it('opens with itself alone', () => {
    expect(authorized('Bearer a-secret-of-some-length')).toBe(true);
    expect(authorized('bearer a-secret-of-some-length')).toBe(true);
  });

  it.each([
    undefined,
    '',
    'Bearer ',
    'Bearer a-secret-of-some-lengt',
    'Bearer a-secret-of-some-length ',
    'Basic x',
    'a-secret-of-some-length',
  ])('does not open with %p', (header) => {
    expect(authorized(header)).toBe(false);
  });
});

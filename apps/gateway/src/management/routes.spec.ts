import { describe, expect, it } from '@jest/globals';
import { findRoute } from './routes.js';

describe('findRoute', () => {
  it.each([
    ['GET', '/api/keys', { found: 'service', service: 'auth' }],
    ['DELETE', '/api/keys/management/x', { found: 'service', service: 'auth' }],
    ['GET', '/api/billing/status', { found: 'service', service: 'billing' }],
    ['PUT', '/api/keys/x', { found: 'not-yet', name: 'PUT /api/keys/:id' }],
    ['GET', '/api/keys/credit', { found: 'other-methods', allow: 'POST' }],
    ['PATCH', '/api/keys/x', { found: 'other-methods', allow: 'GET, DELETE, PUT' }],
    ['GET', '/api/nothing', { found: 'nothing' }],
    ['GET', '/api/keys/', { found: 'nothing' }],
    ['GET', '/api/keys/../operator/prices', { found: 'nothing' }],
    ['GET', '/internal/prices', { found: 'nothing' }],
  ])('%s %s', (method, path, expected) => {
    expect(findRoute(method, path)).toEqual(expected);
  });
});

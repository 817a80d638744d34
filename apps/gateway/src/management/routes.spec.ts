import { describe, expect, it } from '@jest/globals';
import { findRoute } from './routes.js';

describe('findRoute', () => {
  it.each([
    ['GET', '/api/keys', { found: 'operation', operation: { owner: 'auth', path: '/api/keys' } }],
    ['DELETE', '/api/keys/management/x', { found: 'operation', operation: { path: '/api/keys/management/:id' } }],
    ['GET', '/api/billing/status', { found: 'operation', operation: { owner: 'billing' } }],
    ['PUT', '/api/keys/x', { found: 'operation', operation: { path: '/api/keys/:id', permission: 'keys:write' } }],
    ['GET', '/api/keys/credit', { found: 'other-methods', allow: 'POST' }],
    ['PATCH', '/api/keys/x', { found: 'other-methods', allow: 'GET, PUT, DELETE' }],
    ['GET', '/api/nothing', { found: 'nothing' }],
    ['GET', '/api/keys/', { found: 'nothing' }],
    ['GET', '/api/keys/../operator/prices', { found: 'nothing' }],
    ['GET', '/internal/prices', { found: 'nothing' }],
  ])('%s %s', (method, path, expected) => {
    expect(findRoute(method, path)).toMatchObject(expected);
  });
});

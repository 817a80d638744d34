// Who gets what on every path of the management plane, written out by hand: not derived from the code that decides it.
import { OPERATIONS, type Operation } from '@sluice/contracts/operations';

/** What organization A has, made anew for each row: a row may end it. */
export interface Things {
  readonly keyId: string;
  readonly managementKeyId: string;
  readonly memberId: string;
  readonly operatorId: string;
  readonly organizationId: string;
  /** A refused request of A's inference key. */
  readonly requestId: string;
  /** Unique in the run. */
  readonly word: string;
}

/** A status, with the code of the error for a refusal. */
export type Expected = number | readonly [status: number, code: string];

export interface Row {
  readonly operation: string;
  readonly path: (things: Things) => string;
  readonly body?: (things: Things) => unknown;
  /** A management key of the whole organization A. */
  readonly own: Expected;
  readonly viewer: Expected;
  /** A management key of A that is bound to another project. */
  readonly otherProject: Expected;
  /** A management key of organization B, which has nothing. */
  readonly otherOrganization: Expected;
  readonly operator: Expected;
}

const NO_SCOPE = [403, 'scope_insufficient'] as const;
const NO_PROJECT = [403, 'project_scope_mismatch'] as const;
const NOT_FOUND = [404, 'not_found'] as const;
const WRONG_TYPE = [403, 'wrong_credential_type'] as const;
const NOT_YET = [501, 'not_implemented'] as const;

type Verdicts = Partial<Omit<Row, 'operation' | 'path' | 'body'>>;
const row = (
  operation: string,
  verdicts: Verdicts & { own: Expected },
  body?: Row['body'],
  path: Row['path'] = () => operation.split(' ')[1]!,
): Row => ({
  operation,
  path,
  ...(body ? { body } : {}),
  viewer: operation.startsWith('GET ') ? verdicts.own : NO_SCOPE,
  otherProject: verdicts.own,
  otherOrganization: verdicts.own,
  operator: WRONG_TYPE,
  ...verdicts,
});
const onKey = (operation: string, own: Expected, body?: Row['body'], verdicts: Verdicts = {}) =>
  row(operation, { own, otherProject: NOT_FOUND, otherOrganization: NOT_FOUND, ...verdicts }, body, ({ keyId }) =>
    operation.split(' ')[1]!.replace(':id', keyId),
  );
const onManagementKey = (operation: string, own: Expected, body?: Row['body']) =>
  row(operation, { own, otherProject: NOT_FOUND, otherOrganization: NOT_FOUND }, body, ({ managementKeyId }) =>
    operation.split(' ')[1]!.replace(':id', managementKeyId),
  );
const onMember = (operation: string, own: Expected, body?: Row['body']) =>
  row(operation, { own, otherProject: NO_PROJECT, otherOrganization: NOT_FOUND }, body, ({ memberId }) =>
    operation.split(' ')[1]!.replace(':id', memberId),
  );
const WORKLOAD = '/api/projects/:slug/workloads/:name';
const onWorkload = (operation: string, verdicts: Verdicts & { own: Expected }, body?: Row['body'], name = 'only-a') =>
  row(operation, { otherProject: NO_PROJECT, ...verdicts }, body, () =>
    operation.split(' ')[1]!.replace(':slug', 'default').replace(':name', name),
  );
const wide = (operation: string, own: Expected, verdicts: Verdicts = {}, body?: Row['body']) =>
  row(operation, { own, otherProject: NO_PROJECT, ...verdicts }, body);
const platform = (operation: string, operator: Expected, body?: Row['body'], path?: Row['path']) =>
  row(
    operation,
    { own: NO_SCOPE, viewer: NO_SCOPE, otherProject: NO_SCOPE, otherOrganization: NO_SCOPE, operator },
    body,
    path,
  );
/** On a pool or a subscription that nobody has. */
const onNothing = (operation: string, own: Expected, body?: Row['body']) =>
  row(operation, { own, otherProject: NO_PROJECT }, body, () =>
    operation.split(' ')[1]!.replace(':id', '00000000-0000-7000-8000-000000000000'),
  );
/** Takes no credential, and gives nobody more for having one. */
const anonymous = (operation: string, all: Expected, body?: Row['body']) =>
  row(operation, { own: all, viewer: all, otherProject: all, otherOrganization: all, operator: all }, body);
const notYet = (operation: string, verdicts: Verdicts = {}) =>
  row(operation, { own: NOT_YET, ...verdicts }, operation.startsWith('GET ') ? undefined : () => ({}), () =>
    operation.split(' ')[1]!.replace(':id', 'x'),
  );

const named = ({ word }: Things) => ({ name: word });
const NO_CREDIT = [402, 'insufficient_credit'] as const;

export const MATRIX: readonly Row[] = [
  row('GET /api/keys', { own: 200 }),
  row('POST /api/keys/credit', { own: 201, otherOrganization: NO_CREDIT }, named),
  row('POST /api/keys/subscription', { own: [409, 'no_active_subscription'] }, () => ({})),
  row('GET /api/keys/management', { own: 200 }),
  row('POST /api/keys/management', { own: 201 }, named),
  onManagementKey('DELETE /api/keys/management/:id', 200),
  onManagementKey('POST /api/keys/management/:id/rotate', 200, () => ({})),
  row('POST /api/keys/revoke', { own: 200 }, ({ word }) => ({ tag: word })),
  anonymous('POST /api/keys/report-leak', [400, 'invalid_request'], () => ({ secret: 'sk_live_junk' })),
  onKey('GET /api/keys/:id', 200),
  onKey('PUT /api/keys/:id', 200, () => ({ description: 'changed' })),
  onKey('DELETE /api/keys/:id', 200),
  onKey('POST /api/keys/:id/rotate', 200, () => ({})),
  onKey('GET /api/keys/:id/usage', 200),
  row('GET /v1/api-keys', { own: 200 }),
  row('POST /v1/api-keys', { own: 201, otherOrganization: NO_CREDIT }, named),
  onKey('GET /v1/api-keys/:id', 200),
  onKey('DELETE /v1/api-keys/:id', 200),
  onKey('POST /v1/api-keys/:id/rotate', 200, () => ({})),
  row('GET /api/projects', { own: 200 }),
  row('POST /api/projects', { own: 201, otherProject: NO_PROJECT }, ({ word }) => ({ slug: word })),
  row(
    'PUT /api/projects/:slug',
    { own: 200, otherProject: NO_PROJECT, otherOrganization: NOT_FOUND },
    () => ({ limits: { rpm: 1_000 } }),
    () => '/api/projects/only-a',
  ),
  row(
    'GET /api/projects/:slug/workloads',
    { own: 200, otherProject: NO_PROJECT },
    undefined,
    () => '/api/projects/default/workloads',
  ),
  onWorkload(`GET ${WORKLOAD}`, { own: 200, otherOrganization: NOT_FOUND }),
  onWorkload(`PUT ${WORKLOAD}`, { own: 200 }, () => ({ model: 'demo/large-70b' }), 'made'),
  onWorkload(`GET ${WORKLOAD}/keys`, { own: 200, otherOrganization: NOT_FOUND }),
  onWorkload(`DELETE ${WORKLOAD}`, { own: 200 }, undefined, 'made'),
  row('GET /api/models', { own: 200 }),
  wide('GET /api/audit', 200, { viewer: NO_SCOPE }),
  wide('GET /api/audit/export', 200, { viewer: NO_SCOPE }),
  wide('GET /api/members', 200),
  wide('POST /api/members', 201, {}, ({ word }) => ({ email: `${word}@example.com`, role: 'viewer' })),
  onMember('PUT /api/members/:id', 200, () => ({ role: 'member' })),
  onMember('DELETE /api/members/:id', 200),
  onMember('POST /api/members/:id/erase', 200, () => ({})),
  row('GET /api/settings', { own: 200 }),
  wide('PUT /api/settings', 200, {}, () => ({ immutableKeyNames: false, limits: { rpm: 1_000_000 } })),
  anonymous('POST /api/auth/login', [401, 'invalid_api_key'], ({ word }) => ({
    email: `${word}@example.com`,
    password: 'not the password',
  })),
  anonymous('POST /api/auth/accept', [400, 'invalid_request'], () => ({
    token: 'junk',
    password: 'long enough a word',
  })),
  anonymous('POST /api/auth/oidc/start', NOT_FOUND, () => ({})),
  anonymous('POST /api/auth/oidc/finish', NOT_FOUND, () => ({ state: 's', code: 'c' })),
  // A key has no session to end, nor a password.
  row('POST /api/auth/logout', { own: WRONG_TYPE, viewer: 200 }),
  row('GET /api/auth/me', { own: 200, operator: 200 }),
  row('PUT /api/auth/password', { own: WRONG_TYPE, viewer: [400, 'invalid_request'] }, () => ({
    current: 'another password',
    next: 'long enough a word',
  })),
  wide('GET /api/billing/status', 200),
  wide('GET /api/billing/ledger', 200),
  row(
    'GET /api/billing/statements/:month',
    { own: 200, otherProject: NO_PROJECT },
    undefined,
    () => '/api/billing/statements/2026-11',
  ),
  wide('GET /api/billing/settings', 200),
  wide('PUT /api/billing/settings', 200, {}, () => ({ lowBalanceThreshold: '1.00' })),
  wide('GET /api/pools', 200),
  // Where money moves without an Idempotency-Key: refused, and behind that there is no such thing.
  onNothing('POST /api/pools/:id/subscribe', [400, 'invalid_request'], () => ({ blocks: ['europe'] })),
  wide('GET /api/subscriptions', 200),
  onNothing('POST /api/subscriptions/:id/cancel', NOT_FOUND),
  onNothing('POST /api/subscriptions/:id/renew', [400, 'invalid_request']),
  wide('GET /api/billing/topups', 200),
  // The stack has no payment provider.
  wide('POST /api/billing/topups', NOT_YET, {}, () => ({ amount: '25.00' })),
  anonymous('POST /api/billing/webhooks/stripe', NOT_FOUND, () => ({})),
  row('GET /api/usage', { own: 200 }),
  row('GET /api/usage/refusals', { own: 200 }),
  row(
    'GET /api/usage/completeness',
    { own: 200 },
    undefined,
    () => '/api/usage/completeness?from=2026-01-01&to=2026-01-02',
  ),
  row('GET /api/usage/export', { own: 200 }),
  row(
    'GET /api/explain/:requestId',
    { own: 200, otherProject: NOT_FOUND, otherOrganization: NOT_FOUND },
    undefined,
    (t) => `/api/explain/${t.requestId}`,
  ),
  platform('GET /api/operator/organizations', 200),
  platform('POST /api/operator/organizations', 201, named),
  platform(
    'GET /api/operator/organizations/:id',
    200,
    undefined,
    (t) => `/api/operator/organizations/${t.organizationId}`,
  ),
  platform(
    'POST /api/operator/organizations/:id/suspend',
    200,
    () => ({ reason: 'unpaid' }),
    (t) => `/api/operator/organizations/${t.organizationId}/suspend`,
  ),
  platform(
    'POST /api/operator/organizations/:id/resume',
    200,
    undefined,
    (t) => `/api/operator/organizations/${t.organizationId}/resume`,
  ),
  platform('GET /api/operator/credentials', 200),
  platform('POST /api/operator/credentials', 201, named),
  platform('DELETE /api/operator/credentials/:id', 200, undefined, (t) => `/api/operator/credentials/${t.operatorId}`),
  platform('GET /api/operator/audit', 200),
  platform('GET /api/operator/usage/completeness', 200),
  platform(
    'POST /api/operator/usage/boots/:boot/close',
    NOT_FOUND,
    () => ({ reason: 'its machine burnt' }),
    () => '/api/operator/usage/boots/nobody/close',
  ),
  platform('GET /api/operator/prices', 200),
  platform('GET /api/operator/payments/reconciliation', NOT_YET),
  platform('POST /api/operator/prices', 200, ({ word }) => ({
    model: word,
    prices: { input: '1', cachedInput: '1', output: '1' },
  })),
  // Without an Idempotency-Key no money moves: the operator's own fault, and the only one who gets that far.
  ...['credits', 'refunds', 'adjustments'].map((movement) =>
    platform(`POST /api/operator/${movement}`, [400, 'invalid_request'], ({ organizationId }) => ({
      organizationId,
      amount: '1.00',
      reason: 'test',
    })),
  ),
  ...['metering', 'billing'].flatMap((service) => [
    platform(`GET /api/operator/quarantine/${service}`, 200),
    // Of another hash than any.
    platform(
      `GET /api/operator/quarantine/${service}/:hash`,
      NOT_FOUND,
      undefined,
      ({ word }) => `/api/operator/quarantine/${service}/${word}`,
    ),
    platform(
      `POST /api/operator/quarantine/${service}/:hash/redrive`,
      NOT_FOUND,
      undefined,
      ({ word }) => `/api/operator/quarantine/${service}/${word}/redrive`,
    ),
    platform(
      `POST /api/operator/quarantine/${service}/:hash/drop`,
      NOT_FOUND,
      () => ({ reason: 'a test' }),
      ({ word }) => `/api/operator/quarantine/${service}/${word}/drop`,
    ),
  ]),
  platform('GET /api/operator/pools', 200),
  platform('POST /api/operator/pools', 200, ({ word }) => ({
    name: `pool-${word}`.toLowerCase(),
    models: ['demo/large-70b'],
    pricePerBlockHour: '0.01',
    capacity: 1,
  })),
  platform('GET /api/operator/workers', 200),
  notYet('POST /api/operator/workers', {
    own: NO_SCOPE,
    viewer: NO_SCOPE,
    otherProject: NO_SCOPE,
    otherOrganization: NO_SCOPE,
    operator: NOT_YET,
  }),
];

/** Operations that no row is about. */
export const unwritten = (): string[] => {
  const written = new Set(MATRIX.map(({ operation }) => operation));
  return OPERATIONS.map(({ method, path }: Operation) => `${method} ${path}`).filter((name) => !written.has(name));
};

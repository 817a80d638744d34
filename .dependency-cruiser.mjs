// Who may import whom. A rule has its reason beside it, and deploy/local/check-boundaries.mjs an import that breaks it: a rule
// that does not find that one fails the check.

/** What each lib may import of the others; its own specs may use `testing` besides. */
const BELOW = {
  primitives: [],
  contracts: ['primitives'],
  'event-sourcing': ['primitives'],
  'event-store': ['primitives', 'event-sourcing'],
  messaging: ['primitives', 'contracts'],
  'service-kit': ['primitives', 'contracts'],
  testing: ['primitives', 'event-sourcing'],
};
// Test code: specs, and what they stand on.
const SPEC = '([.](spec|fixture)[.]ts$|^[^/]+/[^/]+/src/testing/)';

const downwards = Object.entries(BELOW).map(([lib, below]) => ({
  name: `${lib}-downwards`,
  comment: `libs/${lib} stands on ${below.join(' and ') || 'nothing'}: what is above changes more often`,
  severity: 'error',
  from: { path: `^libs/${lib}/`, pathNot: SPEC },
  to: { path: '^(libs|apps)/', pathNot: `^libs/(${[lib, ...below].join('|')})/` },
}));

export default {
  forbidden: [
    ...downwards,
    {
      name: 'spec-downwards',
      comment: "a lib's specs are under the same order, but for testing",
      severity: 'error',
      from: { path: ['^libs/.*[.](spec|fixture)[.]ts$'] },
      to: { path: '^apps/' },
    },
    {
      name: 'no-app-imports-an-app',
      comment: 'services talk over HTTP and events; shared code moves to a lib',
      severity: 'error',
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'only-messaging-speaks-nats',
      comment:
        'connection, retries and the traps of old servers are handled in one place; test/ and the specs of deploy/ may play another team',
      severity: 'error',
      from: { path: '^(apps|libs|deploy)/', pathNot: ['^libs/messaging/', '^deploy/.*[.]spec[.]ts$'] },
      to: { path: '(^|/)@nats-io/' },
    },
    {
      name: 'event-store-does-not-know-messaging',
      comment: 'it takes a publish function',
      severity: 'error',
      from: { path: '^libs/event-store/' },
      to: { path: '^libs/messaging/' },
    },
    {
      name: 'primitives-use-no-node',
      comment: 'they run in a browser',
      severity: 'error',
      from: { path: '^libs/primitives/', pathNot: SPEC },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'pure-libs-use-no-node',
      comment: 'clock, files and network are inputs; a hash is a pure function',
      severity: 'error',
      from: { path: '^libs/(contracts|event-sourcing)/', pathNot: SPEC },
      to: { dependencyTypes: ['core'], pathNot: '^crypto$' },
    },
    {
      name: 'testing-only-in-tests',
      comment: 'a service must not need test code to run; deploy/ starts servers with it',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: [SPEC, '^libs/testing/'] },
      to: { path: '^libs/testing/' },
    },
    {
      name: 'fixtures-only-in-tests',
      comment: 'made-up values are for specs; what a service needs to run is not called a fixture',
      severity: 'error',
      from: { pathNot: SPEC },
      to: { path: '[.]fixture[.]ts$' },
    },
    {
      name: 'no-dev-dependency-in-production',
      comment: 'a production install is without it',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: [SPEC, '^libs/testing/'] },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'nothing-undeclared',
      comment: 'package.json names it with its version, or it is there by luck',
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-unresolvable',
      comment: 'a misspelt import also hides from every other rule',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-cycles',
      comment: 'files that need each other are one file, or one of them holds what belongs elsewhere',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', 'dist'] },
    exclude: { path: ['(^|/)dist/', '^[.]nx/', '^[.]sluice/'] },
    // Types count: what only types are imported from is depended on too.
    tsPreCompilationDeps: true,
    // Package names of services and libs resolve to their source, as in the tests.
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['@sluice/source', 'import', 'node', 'default', 'types'],
    },
    // npm workspaces keep all versions in the root's package.json.
    combinedDependencies: true,
    skipAnalysisNotInRules: true,
  },
};

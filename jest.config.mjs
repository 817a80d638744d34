// One jest project per tier; the tier is in the file's name. Libs resolve from source (the @sluice/source
// export condition), so no build is needed before a test of libs; journeys start the built services.
const shared = {
  testEnvironment: '<rootDir>/libs/testing/jest-environment.mjs',
  testEnvironmentOptions: { customExportConditions: ['@sluice/source', 'node', 'node-addons'] },
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  testPathIgnorePatterns: ['/node_modules/', '/dist/', '/.nx/', '/.sluice/'],
  modulePathIgnorePatterns: ['/dist/', '/.nx/', '/.sluice/'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        swcrc: false,
        sourceMaps: 'inline',
        module: { type: 'es6' },
        jsc: {
          target: 'es2024',
          keepClassNames: true,
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true, useDefineForClassFields: true },
        },
      },
    ],
  },
};
const tier = (displayName, testMatch, extra = {}) => ({ ...shared, displayName, testMatch, ...extra });

export default {
  // When a test is given up as hung, its hooks too. How long something may take is said by the test that promises it: a busy
  // machine takes ten times as long, and stands still for seconds.
  testTimeout: 180_000,
  projects: [
    tier('unit', ['<rootDir>/{apps,libs,test,deploy}/**/!(*.int|*.e2e|*.chaos|tidy).spec.ts']),
    tier('integration', ['<rootDir>/{apps,libs,deploy}/**/*.int.spec.ts']),
    tier('journeys', ['<rootDir>/test/journeys/**/*.e2e.spec.ts']),
    tier('chaos', ['<rootDir>/test/chaos/**/*.chaos.spec.ts']),
    tier('tidy', ['<rootDir>/test/tidy.spec.ts']),
  ],
};

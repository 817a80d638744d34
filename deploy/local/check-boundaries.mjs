// The imports of the whole checkout against .dependency-cruiser.mjs; then the same rules over a made-up checkout that breaks
// each of them once, where each must be found: a rule whose pattern has stopped to match would be silent otherwise.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import config from '../../.dependency-cruiser.mjs';
import { capture, Failed, main } from './child.mjs';
import { root } from './prepare.mjs';

const BROKEN = {
  'package.json': JSON.stringify({
    dependencies: { '@nats-io/jetstream': '*' },
    devDependencies: { 'fast-check': '*' },
  }),
  'apps/auth/src/key.ts': 'export const key = 1;',
  'apps/gateway/src/an-app.ts': "export * from '../../auth/src/key.js';",
  'apps/gateway/src/nats.ts': "export * from '@nats-io/jetstream';",
  'apps/gateway/src/test-code.ts': "export * from '../../../libs/testing/src/upwards.js';",
  'libs/contracts/src/made-up.fixture.ts': 'export const madeUp = 1;',
  'apps/gateway/src/made-up.ts': "export * from '../../../libs/contracts/src/made-up.fixture.js';",
  'apps/gateway/src/dev-dependency.ts': "export * from 'fast-check';",
  'apps/gateway/src/undeclared.ts': "export * from 'semver';",
  'apps/gateway/src/misspelt.ts': "export * from './nowhere.js';",
  'apps/gateway/src/cycle.ts': "export * from './cycle-back.js';",
  'apps/gateway/src/cycle-back.ts': "export * from './cycle.js';",
  'libs/primitives/src/upwards.ts': "export * from '../../contracts/src/upwards.js';",
  'libs/primitives/src/node.ts': "export * from 'node:crypto';",
  'libs/contracts/src/node.ts': "export * from 'node:fs';",
  'libs/primitives/src/money.spec.ts': "export * from '../../../apps/auth/src/key.js';",
  'libs/contracts/src/upwards.ts': "export * from '../../service-kit/src/upwards.js';",
  'libs/event-sourcing/src/upwards.ts': "export * from '../../event-store/src/upwards.js';",
  'libs/event-store/src/upwards.ts': "export * from '../../messaging/src/upwards.js';",
  'libs/messaging/src/upwards.ts': "export * from '../../service-kit/src/upwards.js';",
  'libs/service-kit/src/upwards.ts': "export * from '../../../apps/auth/src/key.js';",
  'libs/testing/src/upwards.ts': "export * from '../../event-store/src/upwards.js';",
};
const CHECK_MS = 120_000;

const cruise = (cwd, ...args) =>
  capture('depcruise', ['--config', join(root, '.dependency-cruiser.mjs'), ...args], {
    env: process.env,
    cwd,
    milliseconds: CHECK_MS,
  });

await main(async () => {
  await cruise(root, 'apps', 'libs', 'test', 'deploy');

  const folder = join(root, '.sluice', 'broken-boundaries');
  rmSync(folder, { recursive: true, force: true });
  for (const [path, content] of Object.entries(BROKEN)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  const { summary } = JSON.parse(await cruise(folder, '--output-type', 'json', 'apps', 'libs'));
  const found = new Set(summary.violations.map(({ rule }) => rule.name));
  const silent = config.forbidden.map(({ name }) => name).filter((name) => !found.has(name));
  if (silent.length > 0)
    throw new Failed(`These rules find nothing in code that breaks them (${folder}): ${silent.join(', ')}`);
  rmSync(folder, { recursive: true, force: true });
  return 0;
});

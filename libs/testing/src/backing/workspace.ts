import { join } from 'node:path';

/** The checkout's root: this file is libs/testing/{src,dist}/backing/workspace. */
export const workspaceRoot = join(import.meta.dirname, '..', '..', '..', '..');

/** What the checkout makes for itself: never in git. */
export const stateDir = join(workspaceRoot, '.sluice');

// Jest runs a suite's `afterAll` hooks in the order in which they are written, so servers that the first line of a suite asked
// for would end before the clients that its later lines close. What is listed here ends after all hooks of the suite.
import { TestEnvironment } from 'jest-environment-node';

/** In the suite's globals: an array of functions; the last one added is called first. */
const AT_END = Symbol.for('sluice.testing.at-end');

export default class extends TestEnvironment {
  async setup() {
    await super.setup();
    this.global[AT_END] = [];
  }

  async handleTestEvent({ name }) {
    // After the last hook; at teardown(), modules could not load any more.
    if (name !== 'run_finish') return;
    for (const end of this.global[AT_END].toReversed()) await end();
  }
}

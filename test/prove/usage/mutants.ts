import type { Patch } from '../revocation/build.ts';

/** The product with one rule of the design switched off, in a copy of its build. */
export interface Mutant {
  readonly name: string;
  readonly without: string;
  readonly patches: readonly Patch[];
}

const patch = (file: string, from: string, to: string): Patch => ({ file, from, to });
const WITNESS = 'apps/router/dist/witness/witness.service.js';

const RELAY = 'apps/gateway/dist/inference/relay.service.js';

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'end-not-synced',
    without: 'an END is on the disk, and not only written, before the last byte',
    patches: [patch('apps/gateway/dist/journal/journal.service.js', 'await this.synced();', 'void this.synced();')],
  },
  {
    name: 'error-before-its-end',
    without: 'the END comes before the end of an answer that failed, too',
    patches: [
      patch(
        RELAY,
        `await this.end(exchange, clientGone || began ? 'aborted' : 'error');`,
        `void this.end(exchange, clientGone || began ? 'aborted' : 'error');`,
      ),
    ],
  },
  {
    name: 'acknowledged-before-puback',
    without:
      'a batch is published when the stream has it, and not when it was sent; what never came is published again',
    patches: [
      patch(
        'apps/gateway/dist/journal/usage-publisher.service.js',
        'await this.publish(subject, payload, usageBatchId({ boot: this.boot, from, to }));',
        'this.publish(subject, payload, usageBatchId({ boot: this.boot, from, to })).catch(() => {});',
      ),
      // It would mend that, some seconds later.
      patch('apps/gateway/dist/journal/usage-log.service.js', 'await replays.again(missing, first);', ''),
    ],
  },
  {
    name: 'no-successor',
    without: 'the journal of a dead gateway is finished by the next one',
    patches: [
      patch(
        'apps/gateway/dist/journal/usage-log.service.js',
        'for (const dead of await adoptDeadFolders(root, boot))',
        'for (const dead of [])',
      ),
    ],
  },
  {
    name: 'metering-without-claim',
    without: 'metering adds a request to its sums once',
    patches: [patch('apps/metering/dist/usage/usage.store.js', 'if (known.length === 0)', 'if (true)')],
  },
  {
    name: 'billing-without-difference',
    without: 'of a better record only the difference is charged',
    patches: [
      patch(
        'apps/billing/dist/charges/charges.store.js',
        'const charged = charge.charged - (before?.charged ?? 0n);',
        'const charged = charge.charged;',
      ),
    ],
  },
  {
    name: 'no-second-witness',
    without: 'the router tells what it saw of a request whose gateway died',
    patches: [
      patch(WITNESS, 'if (sighting.attempt > 0)', 'if (false)'),
      patch(WITNESS, 'this.recent.takeOf(connection, this.clock.monotonic())', '[]'),
    ],
  },
  {
    name: 'witnesses-contradict',
    without: 'of two that saw a cut request the one that saw more is believed',
    patches: [
      patch(
        'libs/contracts/dist/usage-claim.js',
        `return incoming.counted > known.counted ? 'better' : 'worse';`,
        `return 'conflict';`,
      ),
    ],
  },
];

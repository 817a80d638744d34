import type { Patch } from './build.ts';

/** The product with one rule of the design switched off, in a copy of its build. */
export interface Mutant {
  readonly name: string;
  /** Of "Revocation" in the architecture. */
  readonly rule: number;
  readonly without: string;
  readonly patches: readonly Patch[];
  /** Scenarios that are likely to find it, played first; all others follow. */
  readonly first: readonly string[];
  /** One of two layers of a rule; the other one is expected to cover for it, so that nothing need find it. */
  readonly coveredBy?: string;
}

const patch = (file: string, from: string, to: string): Patch => ({ file, from, to });
const MEMBERSHIP = 'apps/auth/dist/gateways/membership.service.js';
const IN_FORCE = 'apps/auth/dist/gateways/in-force.service.js';
const TOMBSTONES = 'apps/auth/dist/gateways/tombstone.client.js';
const BOOT = 'apps/gateway/dist/keys/membership.service.js';
const PROJECTION = 'apps/gateway/dist/keys/key-projection.js';
const KEYS = 'apps/gateway/dist/keys/keys.service.js';
const RELAY = 'apps/gateway/dist/inference/relay.service.js';
const ROUTER = 'apps/gateway/dist/inference/router.client.js';
const MANAGEMENT = 'apps/gateway/dist/management/management.route.js';

const LAPSE = patch(PROJECTION, 'if (this.leaseUntil !== -Infinity && monotonic >= this.leaseUntil)', 'if (false)');
const DROP = patch(
  PROJECTION,
  `this.generationNumber++;
        this.entries.clear();
        this.secretsOf.clear();
        this.profiles.clear();`,
  '',
);
const SINCE = patch(PROJECTION, ' && entry.sentAt >= this.followingSince;', ';');
const CUT = patch(KEYS, `this.cut(running, new Rejected('invalid_api_key', REVOKED), 'invalidation');`, ';');
const ASK_AGAIN = patch(
  KEYS,
  'running.asking ??= this.askAgain(running).finally(() => (running.asking = undefined));\n        return running.asking;',
  'return undefined;',
);

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'unregistered-lookups',
    rule: 1,
    without: 'auth refuses look-ups of gateways that it does not know',
    patches: [patch(MEMBERSHIP, `throw new Rejected('unknown_gateway');`, 'return;')],
    first: ['retired-gateway'],
  },
  {
    name: 'membership-by-signs-of-life',
    rule: 1,
    without: 'who is registered is a member, heard of lately or not',
    patches: [
      patch(
        IN_FORCE,
        'find(GatewayRow, { retiredAt: null })',
        'find(GatewayRow, { retiredAt: null, lastLookupAt: { $gt: new Date(Date.now() - 1_000) } })',
      ),
    ],
    first: ['deaf-gateway'],
  },
  {
    name: 'boot-ids-reused',
    rule: 1,
    without: 'a boot id stands for one process',
    patches: [patch(BOOT, 'const boot = systemId();', `const boot = '01900000-0000-7000-8000-000000000000';`)],
    first: ['deaf-gateway'],
  },
  {
    name: 'lease-from-arrival',
    rule: 2,
    without: "the lease counts from the nonce's send time",
    patches: [
      patch(
        PROJECTION,
        'Math.max(this.leaseUntil, sentAt + EVIDENCE_MS)',
        'Math.max(this.leaseUntil, this.clock.monotonic() + EVIDENCE_MS)',
      ),
    ],
    first: ['late-feed'],
  },
  {
    name: 'no-lease',
    rule: 2,
    without: 'the feed is trusted only as long as a barrier came back',
    patches: [patch(PROJECTION, 'now < this.leaseUntil && ', ''), LAPSE],
    first: ['stopped-deaf-gateway', 'deaf-gateway'],
  },
  {
    name: 'no-eviction',
    rule: 3,
    without: 'an invalidation evicts the key',
    patches: [patch(PROJECTION, 'if (entry.version < version)', 'if (false)')],
    first: ['deaf-gateway'],
  },
  {
    name: 'no-tombstone-for-unknown-keys',
    rule: 3,
    without: 'a tombstone is left for a key that is not known here',
    patches: [
      patch(
        PROJECTION,
        'if (!this.tombstones.add(invalidation, now))',
        'if (!this.secretsOf.has(invalidation.id) || !this.tombstones.add(invalidation, now))',
      ),
    ],
    first: ['held-lookup'],
  },
  {
    name: 'flights-not-dirty',
    rule: 3,
    without: 'a look-up that an invalidation overtook does not count',
    patches: [patch(PROJECTION, ' || this.tombstones.buries(credential))', ')')],
    first: ['held-lookup'],
  },
  {
    name: 'lookup-from-arrival',
    rule: 3,
    without: 'a look-up counts from when it was sent',
    patches: [patch(PROJECTION, 'credential, flight.sentAt)', 'credential, this.clock.monotonic())')],
    first: ['late-lookup'],
  },
  {
    name: 'generation-kept',
    rule: 4,
    without: 'a lapsed lease or a new consumer drops what was known',
    patches: [DROP, SINCE],
    first: ['feed-made-anew'],
  },
  {
    name: 'no-clock-check',
    rule: 4,
    without: 'clocks that disagree by more than 100 ms start a new generation',
    patches: [
      patch(PROJECTION, 'Math.abs(wall - last.wall - (monotonic - last.monotonic)) > CLOCK_DRIFT_MS', 'last === null'),
    ],
    first: ['sleeping-machine'],
  },
  {
    name: 'no-check-at-dispatch',
    rule: 5,
    without: 'the key is looked at again in the turn of the dispatch',
    patches: [
      patch(ROUTER, 'while (!credential) {', 'credential ??= admitted.credential;\n            while (!credential) {'),
    ],
    first: ['held-dispatch'],
  },
  {
    name: 'no-check-before-first-byte',
    rule: 5,
    without: 'the key is looked at again before the first byte',
    patches: [
      patch(
        RELAY,
        'async permitted({ admitted, running, signal }) {',
        'async permitted({ admitted, running, signal }) {\n        return;',
      ),
    ],
    first: ['stopped-answer', 'held-answer', 'held-body'],
  },
  {
    name: 'no-check-before-management-answer',
    rule: 5,
    without: 'the same for what was read on the management plane',
    patches: [patch(MANAGEMENT, `if (method === 'GET') {`, 'if (false) {')],
    first: ['held-management-answer'],
  },
  {
    name: 'answer-after-commit',
    rule: 6,
    without: 'a revoke is answered when it is in force',
    patches: [
      patch(
        IN_FORCE,
        'const confirmed = await this.attempt(invalidations, announced, startedAt + this.times.answerMs);',
        'const confirmed = { confirmed: 0, of: 0 };\n        void this.attempt(invalidations, announced, startedAt + this.times.answerMs);',
      ),
    ],
    first: ['deaf-gateway'],
  },
  {
    name: 'one-confirmation-is-enough',
    rule: 6,
    without: 'every registered gateway confirms',
    patches: [
      patch(IN_FORCE, 'Promise.all(pushes).then((all) => all.every(Boolean) || waited)', 'Promise.race(pushes)'),
    ],
    first: ['deaf-gateway'],
  },
  {
    name: 'anybody-confirms',
    rule: 6,
    without: 'a confirmation is of the asked process itself',
    patches: [patch(TOMBSTONES, `if (answer && answer.boot !== gateway.boot)\n                return false;`, '')],
    first: ['address-taken'],
  },
  {
    name: 'no-wait',
    rule: 6,
    without: 'L + margin passes for a gateway that did not confirm',
    patches: [patch(IN_FORCE, 'const WAIT_MS = EVIDENCE_MS + EVIDENCE_MARGIN_MS;', 'const WAIT_MS = 0;')],
    first: ['deaf-gateway'],
  },
  {
    name: 'wait-from-commit',
    rule: 6,
    without: 'the wait counts from the PubAck',
    patches: [patch(IN_FORCE, 'let acknowledged = await published;', 'let acknowledged = true;')],
    first: ['auth-without-broker', 'late-broker'],
  },
  {
    name: 'retry-short-circuits',
    rule: 6,
    without: 'a repeated revoke runs the whole procedure again',
    patches: [
      patch(
        IN_FORCE,
        'const again = invalidations.map(',
        'if (startedAt > 0)\n            return { inForce: { confirmed: 0, of: 0, ms: 0 } };\n        const again = invalidations.map(',
      ),
    ],
    first: ['auth-without-broker'],
  },
  {
    name: 'pending-settled-unseen',
    rule: 6,
    without: 'what is pending is in force when the procedure has come to its end',
    patches: [
      patch(
        'apps/auth/dist/gateways/pending.worker.js',
        'const confirmed = await this.inForce.attempt(',
        'const confirmed = { confirmed: 0, of: 0 };\n        void this.inForce.attempt(',
      ),
    ],
    first: ['auth-without-broker'],
  },
  {
    name: 'streams-not-asked-again',
    rule: 7,
    without: 'a gateway that lost the feed asks again for its open streams',
    patches: [ASK_AGAIN],
    first: ['deaf-stream'],
  },
  {
    name: 'streams-not-cut',
    rule: 7,
    without: 'streams in flight on a revoked key are cut',
    patches: [CUT, ASK_AGAIN],
    first: ['cut-stream'],
  },
  {
    name: 'lapse-keeps-generation',
    rule: 4,
    without: 'a lapsed lease starts a new generation',
    patches: [LAPSE],
    first: ['feed-made-anew', 'stopped-deaf-gateway'],
    coveredBy: 'the feed is in order, and a new consumer starts a new generation too',
  },
  {
    name: 'new-consumer-keeps-entries',
    rule: 4,
    without: 'a generation drops what was known',
    patches: [DROP],
    first: ['feed-made-anew'],
    coveredBy: 'an entry counts under a lease only if its look-up began after the consumer existed',
  },
  {
    name: 'lookups-of-before-the-consumer',
    rule: 3,
    without: 'an entry counts under the lease only if its look-up began after the consumer existed',
    patches: [SINCE],
    first: ['feed-made-anew'],
    coveredBy: 'a new consumer drops all entries and flights of before',
  },
  {
    name: 'tombstones-do-not-cut',
    rule: 7,
    without: 'an invalidation cuts what is in flight',
    patches: [CUT],
    first: ['cut-stream'],
    coveredBy: 'a stream whose key is no longer known asks again before its next bytes',
  },
];

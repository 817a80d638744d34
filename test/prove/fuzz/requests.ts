// What clients send: well-formed requests that meet a hostile worker, and hostile ones of every kind.
import * as fc from 'fast-check';
import { hostileBody } from './bodies.ts';
import {
  endpoint,
  jsonFields,
  prefix,
  request,
  type Case,
  type Endpoint,
  type Field,
  type Keys,
  type Plan,
} from './case.ts';
import type { Leaving } from './client.ts';
import { edge, raw } from './edges.ts';
import { script, type Script } from './scripts.ts';
import { markOf } from './worker.ts';

/** Nobody waits for a worker that hangs on purpose; a sound answer has all the time there is. */
const deadline = ({ says }: Script): Field => ['x-sluice-deadline-ms', says === undefined ? '400' : '60000'];

interface Ask {
  readonly at: Endpoint;
  readonly before: string;
  readonly stream: boolean;
  readonly script: Script;
  readonly wantsUsage: boolean;
}
const ask: fc.Arbitrary<Ask> = fc
  .tuple(endpoint, prefix, fc.boolean(), fc.boolean())
  .chain(([at, before, wish, wantsUsage]) => {
    const stream = wish && at.streams;
    return script(at.shape, stream).map((says) => ({ at, before, stream, script: says, wantsUsage }));
  });

const asked = (
  { at, before, stream, script: says, wantsUsage }: Ask,
  id: string,
  { good }: Keys,
): Omit<Case, 'kind'> & { script: Script } => {
  const options = stream && wantsUsage && at.path !== '/messages' ? { stream_options: { include_usage: true } } : {};
  const body = Buffer.from(JSON.stringify({ ...at.body(markOf(id)), ...(at.streams ? { stream } : {}), ...options }));
  const path = before + at.path;
  const bytes = request('POST', path, [...jsonFields(good, body), deadline(says)], body);
  return {
    what: `${path}, stream ${stream}: ${says.what}`,
    method: 'POST',
    path,
    sending: { bytes, cuts: [] },
    script: says,
    asksStream: stream,
  };
};

/** A well-formed request, and a worker that says what it likes. */
const toWorker: fc.Arbitrary<Plan> = ask.map((one) => (id, keys) => ({ kind: 'worker', ...asked(one, id, keys) }));

const leavingOf: fc.Arbitrary<Leaving> = fc.record({
  afterBytes: fc.oneof(fc.constant(0), fc.nat(1_200)),
  how: fc.constantFrom('fin', 'reset'),
});
/** The same from a client that goes away in the middle. */
const leaving: fc.Arbitrary<Plan> = fc
  .tuple(ask, leavingOf, fc.option(fc.nat(600)))
  .map(([one, away, short]) => (id, keys) => {
    const made = asked(one, id, keys);
    const bytes = short === null ? made.sending.bytes : made.sending.bytes.subarray(0, short);
    // Who has not sent all of it hears nothing that it could wait for.
    const goes = short === null ? away : { ...away, afterBytes: 0 };
    return {
      kind: 'leaving',
      ...made,
      what: `${made.what}; leaves ${goes.how} after ${goes.afterBytes}, ${bytes.length} bytes sent`,
      sending: { bytes, cuts: [], leaving: goes },
    };
  });

export const plan: fc.Arbitrary<Plan> = fc.oneof(
  { arbitrary: toWorker, weight: 45 },
  { arbitrary: leaving, weight: 15 },
  { arbitrary: hostileBody, weight: 20 },
  { arbitrary: edge, weight: 13 },
  { arbitrary: raw, weight: 7 },
);

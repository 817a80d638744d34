import { expect, it } from '@jest/globals';
import { uuidv7 } from '@sluice/primitives/id';
import { messageId } from '../messages/message.js';
import { mayBeUnderWay, requestIdOf } from './request-id.js';

const REQUEST = uuidv7(1_767_323_045_000, new Uint8Array(10).fill(7));

it.each([
  REQUEST,
  `chatcmpl-${REQUEST}.1`,
  `cmpl-${REQUEST}.2`,
  `embd-${REQUEST}`,
  `resp_${REQUEST}.1`,
  messageId(REQUEST),
])('%s names its request', (id) => expect(requestIdOf(id)).toBe(REQUEST));

it.each([
  '',
  'x',
  `x-${REQUEST}`,
  `${REQUEST}/..`,
  `${REQUEST}.`,
  `chatcmpl-${'0'.repeat(32)}`,
  `${REQUEST}\n`,
  'msg_1',
])('%j names none', (id) => expect(requestIdOf(id)).toBeUndefined());

it.each([
  [0, true],
  [3_899_999, true],
  [3_900_000, false],
  // The clock of the gateway that made the id may be ahead.
  [-3_899_999, true],
  [-3_900_000, false],
])('a request says itself when it began: it may still run %i ms later: %s', (later, may) =>
  expect(mayBeUnderWay(REQUEST, 1_767_323_045_000 + later)).toBe(may),
);

import { describe, expect, it } from '@jest/globals';
import { NatsMessages } from './nats-messages.ts';

const ACK = '{"stream":"KEYFEED","seq":7}';
const WIRE = [
  'INFO {"x":1}\r\n',
  'PONG\r\n',
  'MSG keyfeed.key.k 1 $JS.ACK.x 5\r\nab\r\nc\r\n',
  `MSG _INBOX.g.1 2 ${ACK.length}\r\n${ACK}\r\n`,
  'HMSG _INBOX.g.2 3 12 12\r\nNATS/1.0\r\n\r\n\r\n',
];

describe('the messages of a NATS server', () => {
  it.each([1, 3, 7, 1_000])('are the same whatever pieces they come in: of %i bytes', (size) => {
    const wire = Buffer.from(WIRE.join(''));
    const messages = new NatsMessages();
    const seen = [];
    for (let at = 0; at < wire.length; at += size) seen.push(...messages.push(wire.subarray(at, at + size)));
    expect(seen.map(({ bytes }) => bytes.toString())).toEqual(WIRE);
    expect(seen.map(({ delivery }) => delivery)).toEqual([false, false, true, false, true]);
  });
});

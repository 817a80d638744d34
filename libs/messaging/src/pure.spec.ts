import { describe, expect, it } from '@jest/globals';
import { backoff } from './backoff.js';
import { deadLetterOf, errorName, errorPlace, redriven } from './dead-letter.js';
import { parseDeliveryInfo } from './delivery-info.js';
import type { Delivery } from './jetstream.context.js';
import { JetStreamStrategy } from './jetstream.strategy.js';
import type { Messaging } from './messaging.js';
import { parseServerAddress } from './server-address.js';

describe('backoff', () => {
  it('doubles up to its limit, and half of it is chance', () => {
    expect([1, 2, 3, 4, 5].map((failures) => backoff(failures, 100, 800, 0.5))).toEqual([75, 150, 300, 600, 600]);
    expect(backoff(1, 100, 800, 0)).toBe(50);
    expect(backoff(1_000, 100, 800, 0.999)).toBeLessThan(800);
  });
});

describe('the address of the server', () => {
  it.each([
    ['nats://auth:s%40cret@host:4222', { servers: ['host:4222'], user: 'auth', password: 's@cret' }],
    ['nats://a:b@one:1,nats://two:2, three:3', { servers: ['one:1', 'two:2', 'three:3'], user: 'a', password: 'b' }],
    ['localhost:4222', { servers: ['localhost:4222'] }],
  ])('reads %s', (url, expected) => {
    expect(parseServerAddress(url)).toEqual(expected);
  });

  it.each(['postgres://user:hunter2@host/db', 'nats://user:hunter2@', 'nats://user:hunter2@host:notaport'])(
    'refuses %s, without quoting its password',
    (url) => {
      expect(() => parseServerAddress(url)).toThrow(new Error('not the URL of a NATS server'));
    },
  );
});

describe('delivery info', () => {
  const expected = { deliveries: 2, streamSequence: 30, consumerSequence: 4, timestamp: 1_700_000_000_000_000_000n };
  it('is read from either form of the reply subject', () => {
    expect(parseDeliveryInfo('$JS.ACK.S.c.2.30.4.1700000000000000000.7')).toEqual(expected);
    expect(parseDeliveryInfo('$JS.ACK.dom.hash.S.c.2.30.4.1700000000000000000.7.rnd')).toEqual(expected);
  });

  it.each(['', '_INBOX.a.b', '$JS.ACK.S.c'])('is not read from %j', (reply) => {
    expect(parseDeliveryInfo(reply)).toBeUndefined();
  });
});

describe('a dead letter', () => {
  const delivery: Delivery = {
    subject: 'evt.auth.x',
    stream: 'EVT_AUTH',
    durable: 'metering-keys',
    sequence: 7,
    deliveries: 10,
    messageId: 'm1',
    storedAt: new Date(0),
    headers: {
      'Nats-Msg-Id': ['m1'],
      'Nats-Expected-Stream': ['EVT_AUTH'],
      'Content-Type': ['application/cloudevents+json'],
    },
  };

  it('keeps its headers, but not what was about the stream it came from', () => {
    expect(deadLetterOf(delivery, 'Rejected')).toEqual({
      subject: 'dlq.EVT_AUTH.metering-keys',
      id: 'metering-keys:m1',
      headers: {
        'Content-Type': ['application/cloudevents+json'],
        'Sluice-Dead-Reason': ['Rejected'],
        'Sluice-Dead-Subject': ['evt.auth.x'],
        'Sluice-Dead-Sequence': ['7'],
        'Sluice-Dead-Deliveries': ['10'],
        'Sluice-Dead-Message-Id': ['m1'],
      },
    });
  });

  it('is the original message to its handler when it comes again, and another dead letter when it dies again', () => {
    const first = deadLetterOf(delivery, 'Rejected');
    const again: Delivery = {
      ...delivery,
      subject: 'redrive.EVT_AUTH.metering-keys',
      stream: 'REDRIVE',
      sequence: 1,
      deliveries: 1,
      messageId: 'again-1',
      headers: { ...first.headers, 'Nats-Msg-Id': ['again-1'] },
    };
    const seen = redriven(again, 'EVT_AUTH');
    expect(seen).toMatchObject({ subject: 'evt.auth.x', stream: 'EVT_AUTH', sequence: 7, messageId: 'm1' });
    const second = deadLetterOf(seen, 'TypeError');
    expect(second.id).not.toBe(first.id);
    expect(second).toMatchObject({
      subject: first.subject,
      headers: { ...first.headers, 'Sluice-Dead-Reason': ['TypeError'], 'Sluice-Dead-Deliveries': ['1'] },
    });
    expect(deadLetterOf(seen, 'TypeError').id).toBe(second.id);
  });

  it('says where an error was thrown, without its message', () => {
    const place = errorPlace(new Error('sk_live_secret\n    on two lines'));
    expect(place[0]).toMatch(/^at .*pure\.spec\.ts/);
    expect(place.join()).not.toContain('sk_live_secret');
    expect(errorPlace('text')).toEqual([]);
  });

  it.each([
    [new TypeError('sk_live_secret'), 'TypeError'],
    [Object.assign(new Error('secret'), { code: '23505' }), 'Error/23505'],
    [{ name: 'sk live\r\nInjected: yes' }, 'Error'],
    ['thrown text', 'Error'],
    [null, 'Error'],
  ])('names an error without quoting it: %p', (error, expected) => {
    expect(errorName(error)).toBe(expected);
  });
});

describe('a handler of several subjects', () => {
  it('has a durable of its own for each of them', () => {
    const strategy = new JetStreamStrategy({ messaging: undefined as unknown as Messaging });
    const add = (subject: string) =>
      strategy.addHandler(subject, async () => {}, true, {
        stream: 'USAGE',
        durable: (one: string) => `test-usage-${one.at(-1)}`,
      });
    add('usage.v1.0');
    add('usage.v1.1');
    expect(() => add('usage.v1.1')).toThrow('durable test-usage-1 has two handlers');
  });
});

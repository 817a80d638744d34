import { describe, expect, it } from '@jest/globals';
import { z } from 'zod';
import { eventCodec, InvalidEvent } from './index.js';

const pico = z.codec(z.string().regex(/^\d+$/), z.bigint(), {
  decode: (text) => BigInt(text),
  encode: (amount) => amount.toString(),
});
const codec = eventCodec({
  Credited: z.object({ amount: pico, note: z.string().max(5).optional() }),
  Closed: z.object({}),
});

describe('the codec of stored events', () => {
  it('keeps an amount beyond 2^53 exact through JSON', () => {
    const event = { type: 'Credited' as const, data: { amount: 123_456_789_012_345_678_901n } };
    const stored = JSON.parse(JSON.stringify(codec.encode(event))) as { type: string; data: unknown };
    expect(stored.data).toEqual({ amount: '123456789012345678901' });
    expect(codec.decode(stored)).toEqual(event);
  });

  it('refuses to store what the schema does not allow', () => {
    expect(() => codec.encode({ type: 'Credited', data: { amount: 1n, note: 'too long' } })).toThrow(InvalidEvent);
  });

  it('refuses to read damaged data, and says where but not what', () => {
    const read = () => codec.decode({ type: 'Credited', data: { amount: 'hunter2' } });
    expect(read).toThrow(/data of Credited is not valid: amount/);
    expect(read).not.toThrow(/hunter2/);
  });

  it.each(['Unknown', 'toString', '__proto__'])('refuses the event type %s', (type) => {
    expect(() => codec.decode({ type, data: {} })).toThrow(`unknown event type ${type}`);
  });

  it('reads an event of a newer version that has more fields', () => {
    expect(codec.decode({ type: 'Closed', data: { added: 'later' } })).toEqual({ type: 'Closed', data: {} });
  });
});

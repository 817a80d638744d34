import { describe, expect, it } from '@jest/globals';
import { bucketOf } from './login-limits.js';

describe('the bucket of an attempt', () => {
  it('is one per account and per address, and names neither', () => {
    expect(bucketOf('account', 'ada@example.com')).toMatch(/^account:[0-9a-f]{5}$/);
    expect(bucketOf('account', 'ada@example.com')).not.toBe(bucketOf('account', 'bob@example.com'));
    expect(bucketOf('address', '192.0.2.1')).not.toBe(bucketOf('address', '192.0.2.2'));
    expect(bucketOf('address', '192.0.2.1')).not.toBe(
      bucketOf('provider-start', '192.0.2.1').replace('provider-start', 'address'),
    );
  });

  it('is the same for every address of one IPv6 network, and for IPv4 however it is written', () => {
    const one = bucketOf('address', '2001:db8:0:1:aaaa::1');
    expect(bucketOf('address', '2001:db8:0:1::2')).toBe(one);
    expect(bucketOf('address', '2001:0DB8:0000:0001:1:2:3:4')).toBe(one);
    expect(bucketOf('address', '2001:db8:0:2::2')).not.toBe(one);
    expect(bucketOf('address', '2001:db8::2')).toBe(bucketOf('address', '2001:db8:0:0:9::'));
    expect(bucketOf('address', '::ffff:192.0.2.1')).toBe(bucketOf('address', '192.0.2.1'));
  });
});

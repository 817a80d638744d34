import { describe, expect, it } from '@jest/globals';
import { formatHash, parseHash } from './password-hash.js';
import { AT_ONCE, MAX_WAITING, Passwords } from './passwords.service.js';

const passwords = new Passwords();

describe('a password', () => {
  it('is known again by its argon2id hash, and another one is not', async () => {
    const hash = await passwords.hash('correct horse battery');
    expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    expect(await passwords.verify('correct horse battery', hash)).toEqual({ right: true });
    expect(await passwords.verify('correct horse batterz', hash)).toEqual({ right: false });
    expect(await passwords.hash('correct horse battery')).not.toBe(hash);
  });

  it('is nobody’s where there is none, after as much work', async () => {
    expect(await passwords.verify('correct horse battery', undefined)).toEqual({ right: false });
    expect(await passwords.verify('correct horse battery', null)).toEqual({ right: false });
    const timed = async (stored: string | undefined) => {
      const from = performance.now();
      await passwords.verify('guess guess guess', stored);
      return performance.now() - from;
    };
    const hash = await passwords.hash('correct horse battery');
    // The least of many: what a busy machine does meanwhile only adds.
    let [known, unknown] = [Infinity, Infinity];
    for (let i = 0; i < 10; i++) {
      known = Math.min(known, await timed(hash));
      unknown = Math.min(unknown, await timed(undefined));
    }
    expect(unknown).toBeGreaterThan(known / 3);
    expect(known).toBeGreaterThan(unknown / 3);
  });

  it('is the same in another Unicode form of the same letters', async () => {
    const hash = await passwords.hash('caf\u00e9 caf\u00e9 caf\u00e9');
    expect(await passwords.verify('cafe\u0301 cafe\u0301 cafe\u0301', hash)).toEqual({ right: true });
  });

  it('is hashed anew when the parameters have changed, and verified by those it was hashed with', async () => {
    // argon2id of "password", by the reference implementation: echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1
    const reference = '$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc';
    const verified = await passwords.verify('password', reference);
    expect(verified).toEqual({ right: true, rehashed: expect.stringMatching(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/) });
    expect(await passwords.verify('password', verified.rehashed)).toEqual({ right: true });
  });

  it('keeps what it was made with in PHC’s form, and nothing else is read as one', () => {
    const hash = { memory: 8, passes: 1, parallelism: 1, salt: Buffer.alloc(16, 1), tag: Buffer.alloc(32, 2) };
    expect(parseHash(formatHash(hash))).toEqual(hash);
    for (const text of ['', 'plain', '$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$YWJjZGVmZ2hpamtsbW5vcA', '$2b$10$abc'])
      expect(parseHash(text)).toBeUndefined();
  });

  it('can’t take the machine: beyond those that may wait it is "unavailable", and the others are answered', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 40 }, () => passwords.hash('correct horse battery')),
    );
    const refused = outcomes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    expect(refused.length).toBe(40 - AT_ONCE - MAX_WAITING);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'unavailable', retryAfter: 1 });
    await expect(passwords.hash('correct horse battery')).resolves.toMatch(/^\$argon2id/);
  });
});

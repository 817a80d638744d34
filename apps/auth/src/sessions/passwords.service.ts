import { argon2, randomBytes, timingSafeEqual } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { Injectable } from '@nestjs/common';
import type { OnModuleInit } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import {
  formatHash,
  isOutdated,
  PARAMETERS,
  parseHash,
  passwordBytes,
  SALT_BYTES,
  TAG_BYTES,
  type Argon2Parameters,
} from './password-hash.js';

/**
 * Hashes at once: each takes 19 MiB, a core, and one of the threads that files and names are looked up by, too. Half of
 * the cores, so that people who sign in do not slow down revokes.
 */
export const AT_ONCE = Math.min(2, Math.max(1, Math.floor(availableParallelism() / 2)));
/** Those that wait; at about 40 ms each the last of them waits well below a second. */
export const MAX_WAITING = 16 * AT_ONCE;

export interface Verified {
  readonly right: boolean;
  /** In its place from now on, as the parameters have changed. */
  readonly rehashed?: string;
}

/** argon2id by Node's own crypto, with a bound on how much of the machine logins may take. */
@Injectable()
export class Passwords implements OnModuleInit {
  private running = 0;
  private readonly waiting: (() => void)[] = [];
  private nobodys: Promise<string> | undefined;

  /** Before the first login: an unknown email must not take longer for it. */
  async onModuleInit(): Promise<void> {
    await this.nobodysHash();
  }

  /** @throws Rejected `unavailable` when too many wait */
  async hash(password: string): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    const tag = await this.bounded(() => derive(password, salt, TAG_BYTES, PARAMETERS));
    return formatHash({ ...PARAMETERS, salt, tag });
  }

  /**
   * Takes the same time whether there is a hash or not: what is not there is compared with nobody's.
   * @throws Rejected `unavailable` when too many wait
   */
  async verify(password: string, stored: string | null | undefined): Promise<Verified> {
    const hash = parseHash(stored ?? (await this.nobodysHash()));
    if (!hash) throw new Error('a stored password hash is not in the form it is written in');
    const tag = await this.bounded(() => derive(password, hash.salt, hash.tag.length, hash));
    const right = timingSafeEqual(tag, hash.tag) && stored != null;
    return right && isOutdated(hash) ? { right, rehashed: await this.hash(password) } : { right };
  }

  private nobodysHash(): Promise<string> {
    this.nobodys ??= this.hash(randomBytes(32).toString('hex')).catch((error: unknown) => {
      this.nobodys = undefined;
      throw error;
    });
    return this.nobodys;
  }

  private async bounded<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= AT_ONCE) {
      if (this.waiting.length >= MAX_WAITING)
        throw new Rejected('unavailable', 'Too many sign in at this moment.', { retryAfter: 1 });
      // Whoever ends hands its place over.
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    } else this.running += 1;
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running -= 1;
    }
  }
}

function derive(
  password: string,
  nonce: Uint8Array,
  tagLength: number,
  { memory, passes, parallelism }: Argon2Parameters,
): Promise<Buffer> {
  const parameters = { message: passwordBytes(password), nonce, memory, passes, parallelism, tagLength };
  return new Promise((resolve, reject) => {
    argon2('argon2id', parameters, (error, tag) => (error ? reject(error) : resolve(tag)));
  });
}

/** What an argon2id hash was made with. */
export interface Argon2Parameters {
  /** KiB. */
  readonly memory: number;
  readonly passes: number;
  readonly parallelism: number;
}

export interface PasswordHash extends Argon2Parameters {
  readonly salt: Uint8Array;
  readonly tag: Uint8Array;
}

/** OWASP's advice for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane. */
export const PARAMETERS: Argon2Parameters = { memory: 19_456, passes: 2, parallelism: 1 };
export const SALT_BYTES = 16;
export const TAG_BYTES = 32;

const FORM = /^\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/;

/** PHC's string format: the hash says itself what it was made with. */
export function formatHash({ memory, passes, parallelism, salt, tag }: PasswordHash): string {
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${base64(salt)}$${base64(tag)}`;
}

/** Undefined for anything but an argon2id hash in PHC's form. */
export function parseHash(text: string): PasswordHash | undefined {
  const found = FORM.exec(text);
  if (!found) return undefined;
  const [, memory, passes, parallelism, salt, tag] = found as unknown as [string, ...string[]];
  return {
    memory: Number(memory),
    passes: Number(passes),
    parallelism: Number(parallelism),
    salt: Buffer.from(salt!, 'base64'),
    tag: Buffer.from(tag!, 'base64'),
  };
}

/** Made with other parameters than new ones are. */
export const isOutdated = ({ memory, passes, parallelism }: Argon2Parameters): boolean =>
  memory !== PARAMETERS.memory || passes !== PARAMETERS.passes || parallelism !== PARAMETERS.parallelism;

/** The same password, however its letters were put together by a keyboard. */
export const passwordBytes = (password: string): Uint8Array => Buffer.from(password.normalize('NFKC'), 'utf8');

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64').replace(/=+$/, '');

import { createHash, timingSafeEqual } from 'node:crypto';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Whether an `Authorization` header bears the secret. Digests are compared: their length says nothing. */
export function bearerOf(secret: string): (header: string | undefined) => boolean {
  const expected = digest(secret);
  return (header) => {
    const presented = /^bearer (.+)$/i.exec(header ?? '')?.[1];
    return presented !== undefined && timingSafeEqual(digest(presented), expected);
  };
}

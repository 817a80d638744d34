import type { Readable } from 'node:stream';
import { Rejected } from '@sluice/contracts/errors';

/** What is thrown away at most of a body that is too long, in limits. */
const DISCARDED_LIMITS = 4;

/**
 * Reads a whole body. One that is too long is read to its end and thrown away: a server that closes while the client is
 * still sending takes its own answer back (the client sees a reset). Beyond four limits it does just that. By events: a
 * stream's iterator costs 10 µs.
 * @param limit bytes
 * @throws Rejected `request_too_large`; what the stream fails with
 */
export function readBody(body: Readable, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let chunks: Buffer[] = [];
    let length = 0;
    let ended = false;
    const tooLarge = () => new Rejected('request_too_large', `The body is larger than ${limit} bytes.`);
    body.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= limit) chunks.push(chunk);
      else chunks = [];
      if (length <= limit * DISCARDED_LIMITS) return;
      reject(tooLarge());
      body.destroy();
    });
    body.once('end', () => {
      ended = true;
      if (length > limit) reject(tooLarge());
      else resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length));
    });
    body.once('error', reject);
    body.once('close', () => {
      if (!ended) reject(new Error('the body broke off'));
    });
  });
}

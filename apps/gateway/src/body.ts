import { Rejected } from '@sluice/contracts/errors';

/** What is thrown away at most of a body that is too long, in limits. */
const DISCARDED_LIMITS = 4;

/**
 * Reads a whole body. One that is too long is read to its end and thrown away: a server that closes while the client is
 * still sending takes its own answer back (the client sees a reset). Beyond four limits it does just that.
 * @param limit bytes
 * @throws Rejected `request_too_large`
 */
export async function readBody(body: AsyncIterable<Buffer>, limit: number): Promise<Buffer> {
  let chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length <= limit) chunks.push(chunk);
    else chunks = [];
    if (length > limit * DISCARDED_LIMITS) break;
  }
  if (length > limit) throw new Rejected('request_too_large', `The body is larger than ${limit} bytes.`);
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length);
}

import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Busboy, type BusboyInstance } from '@fastify/busboy';
import type { Faults } from '../faults/faults.js';
import { badRequest, Problem } from '../server/problem.js';
import { secondsOf } from './audio.js';

/** What was posted: fields as they came, and of the file what its answer is made of. */
export interface TranscriptionForm {
  readonly fields: ReadonlyMap<string, string>;
  readonly audio: { readonly digest: Buffer; readonly bytes: number; readonly seconds: number } | undefined;
}

const HEADER_BYTES = 4_096;
const LIMITS = { fields: 50, files: 1, parts: 60, fieldSize: 64 * 1024, fieldNameSize: 100 };

/** Reads a form to its end. The file is not kept, unlike in vLLM. @throws Problem 400, 415 */
export async function readForm(
  request: IncomingMessage,
  maxBytes: number,
  stall: Faults['stallUpload'],
): Promise<TranscriptionForm> {
  const type = request.headers['content-type'] ?? '';
  if (!/^multipart\/form-data *;/i.test(type))
    throw new Problem(415, 'Unsupported Media Type', "Unsupported Media Type: Only 'multipart/form-data' is allowed");
  const fields = new Map<string, string>();
  let audio: Promise<NonNullable<TranscriptionForm['audio']>> | undefined;
  await new Promise<void>((resolve, reject) => {
    const fail = () => reject(badRequest('There was an error parsing the body'));
    request.once('error', fail).once('aborted', fail);
    let form: BusboyInstance;
    try {
      form = new Busboy({ headers: { 'content-type': type }, limits: LIMITS });
    } catch {
      return fail();
    }
    form.on('field', (name, value) => fields.set(name, value));
    form.on('file', (name, file) => {
      if (name !== 'file') return void file.resume();
      audio = listen(file, maxBytes, stall);
      audio.catch(reject);
    });
    form.on('error', fail).on('finish', resolve);
    request.pipe(form);
  });
  return { fields, audio: await audio };
}

async function listen(file: Readable, maxBytes: number, stall: Faults['stallUpload']) {
  const hash = createHash('sha256');
  let head = Buffer.alloc(0);
  let bytes = 0;
  let stalled = false;
  for await (const chunk of file as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
    if (head.length < HEADER_BYTES) head = Buffer.concat([head, chunk]).subarray(0, HEADER_BYTES);
    if (bytes > maxBytes) throw badRequest('Maximum file size exceeded', 'audio_filesize_mb');
    if (stall && !stalled && bytes >= stall.afterBytes) {
      stalled = true;
      await sleep(stall.ms);
    }
  }
  return { digest: hash.digest(), bytes, seconds: secondsOf(head, bytes) };
}

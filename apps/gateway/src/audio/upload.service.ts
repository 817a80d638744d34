import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { Rejected } from '@sluice/contracts/errors';
import { AudioMeter } from './audio-length.js';
import { boundaryOf } from './multipart.js';
import { brokenOff, TranscriptionForm } from './transcription-form.js';

/** Bytes that a file may have before its `model` is known, in one upload and in all of this process. */
export interface HoldLimits {
  readonly one: number;
  readonly all: number;
}

/** What all uploads of a process hold together. */
export class Holds {
  private bytes = 0;

  constructor(readonly limits: HoldLimits) {}

  get held(): number {
    return this.bytes;
  }

  /** @throws Rejected `invalid_request`, `unavailable` */
  take(bytes: number, already: number): void {
    if (already + bytes > this.limits.one)
      throw new Rejected(
        'invalid_request',
        `Send model before file: of a file that comes first ${this.limits.one} bytes are waited for at most.`,
        { param: 'model' },
      );
    if (this.bytes + bytes > this.limits.all)
      throw new Rejected('unavailable', 'Too many uploads wait for their model; send model before file.', {
        retryAfter: 1,
      });
    this.bytes += bytes;
  }

  giveBack(bytes: number): void {
    this.bytes -= bytes;
  }
}

/** What a chunk takes beside its bytes: a client that sends them one by one must not hold more than it is counted for. */
const CHUNK_BYTES = 512;
/** How long an answered client may go on sending what nobody wants. */
const DISCARD_MS = 15_000;

/**
 * A form on its way through: read as far as it has to be before it can be sent on, and from then on passed as it comes, no
 * faster than the worker takes it.
 */
export class Upload {
  readonly contentType: string;
  readonly meter = new AudioMeter();
  private readonly form: TranscriptionForm;
  private readonly chunks: AsyncIterator<Buffer, undefined>;
  private received = 0;
  private held = 0;

  /** @throws Rejected `unsupported_media_type`, `invalid_request`, `request_too_large` */
  constructor(
    private readonly request: IncomingMessage,
    private readonly maxBytes: number,
    private readonly holds: Holds,
  ) {
    this.contentType = request.headers['content-type'] ?? '';
    this.form = new TranscriptionForm(boundaryOf(this.contentType), this.meter);
    if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw this.tooLarge();
    // Who stops reading has an answer to give on this connection.
    this.chunks = request.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer, undefined>;
  }

  get model(): string | undefined {
    return this.form.model;
  }

  /** As far as the form has come. */
  get stream(): boolean {
    return this.form.stream;
  }

  /**
   * Reads up to the file, and beyond it while the model is not known.
   * @param late rejects when nothing more is to be waited for
   * @throws Rejected `invalid_request`, `request_too_large`, `unavailable`, what `late` says
   */
  async readHead(modelKnown: boolean, late: Promise<never>): Promise<void> {
    const enough = () => this.form.ended || (this.form.fileBegan && (modelKnown || this.model !== undefined));
    while (!enough()) {
      const chunk = await Promise.race([this.next(), late]);
      const bytes = chunk.length + CHUNK_BYTES;
      this.holds.take(bytes, this.held);
      this.held += bytes;
      this.form.push(chunk);
    }
    if (!modelKnown && this.model === undefined)
      throw new Rejected('invalid_request', 'model is missing.', { param: 'model' });
  }

  /** From now on it can be sent on. */
  goesTo(workersModel: string): this {
    this.form.goesTo(workersModel);
    return this;
  }

  /** For the worker, once. Nothing is touched before the first byte is asked for. */
  bytes(): Readable {
    return Readable.from(this.passing(), { objectMode: false });
  }

  /** Whatever became of it: nothing is held any more, and what still comes is thrown away, for a while. */
  leave(): void {
    this.letGo();
    const { request } = this;
    if (request.complete || request.destroyed) return;
    // Only then does nobody wait for its bytes, and they can flow.
    void this.chunks.return?.().then(
      () => request.resume(),
      () => {},
    );
    const timer = setTimeout(() => request.destroy(), DISCARD_MS);
    timer.unref();
    request.once('close', () => clearTimeout(timer));
  }

  private async *passing(): AsyncGenerator<Buffer, void> {
    const held = this.form.take();
    if (held.length > 0) yield held;
    this.letGo();
    while (!this.form.ended) {
      this.form.push(await this.next());
      const out = this.form.take();
      if (out.length > 0) yield out;
    }
  }

  /** @throws Rejected `invalid_request`, `request_too_large` */
  private async next(): Promise<Buffer> {
    let next: IteratorResult<Buffer, undefined>;
    try {
      next = await this.chunks.next();
    } catch {
      // Its connection is gone, which whoever has to answer it has heard of.
      throw brokenOff();
    }
    if (next.done) throw brokenOff();
    this.received += next.value.length;
    if (this.received > this.maxBytes) throw this.tooLarge();
    return next.value;
  }

  private letGo(): void {
    this.holds.giveBack(this.held);
    this.held = 0;
  }

  private tooLarge(): Rejected {
    return new Rejected('request_too_large', `The body is larger than ${this.maxBytes} bytes.`);
  }
}

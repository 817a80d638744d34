import { Rejected } from '@sluice/contracts/errors';
import type { AudioMeter } from './audio-length.js';
import { malformed, MultipartScanner, type Part, type Piece } from './multipart.js';

/** In the answer's `response_format`; which of them a model has is for its worker to say. */
const FORMATS = new Set(['json', 'text', 'srt', 'verbose_json', 'vtt', 'diarized_json']);
const MAX_MODEL = 256;
const MAX_FIELD_BYTES = 64 * 1024;
/** What the gateway has to know of a form. */
const READ = new Set(['model', 'stream', 'response_format']);
/** vLLM's, flattened for forms: forced where the answer is a stream, as counts on the way are what one that breaks is metered by. */
const FORCED = ['stream_include_usage', 'stream_continuous_usage_stats'];
const TRUE = new Set(['true', '1', 'on', 'yes', 't', 'y']);
const FALSE = new Set(['false', '0', 'off', 'no', 'f', 'n']);
const NOTHING = Buffer.alloc(0);
const CR = 13;

/**
 * The form of a transcription on its way from client to worker. What is pushed in is read; what is taken out is for the
 * worker: the same bytes but for `model`, which becomes the worker's, and the usage of streams.
 */
export class TranscriptionForm {
  private readonly scanner: MultipartScanner;
  private readonly fields = new Map<string, string>();
  private readonly waiting: Piece[] = [];
  private current: { readonly part: Part; bytes: number; text: Buffer } | undefined;
  private hasFile = false;
  private wrote = false;
  private workersModel: string | undefined;
  /** What becomes of the content of the part that is written. */
  private writes: 'as it is' | 'the model' | 'nothing' = 'as it is';

  constructor(
    private readonly boundary: string,
    private readonly meter: AudioMeter,
  ) {
    this.scanner = new MultipartScanner(boundary);
  }

  /** As far as it has come. */
  get model(): string | undefined {
    return this.fields.get('model');
  }

  get stream(): boolean {
    return TRUE.has(this.fields.get('stream')?.toLowerCase() ?? '');
  }

  get fileBegan(): boolean {
    return this.hasFile;
  }

  get ended(): boolean {
    return this.scanner.ended;
  }

  /** @throws Rejected `invalid_request` */
  push(chunk: Buffer): void {
    for (const piece of this.scanner.push(chunk)) {
      this.read(piece);
      this.waiting.push(piece);
    }
  }

  /** From now on it can be taken out. */
  goesTo(workersModel: string): void {
    this.workersModel = workersModel;
  }

  /** What there is for the worker by now. */
  take(): Buffer {
    const out = this.waiting.splice(0).map((piece) => this.written(piece));
    return out.length === 1 ? out[0]! : Buffer.concat(out);
  }

  private read(piece: Piece): void {
    if (piece.kind === 'data') {
      const { current } = this;
      current!.bytes += piece.bytes.length;
      if (current!.part.isFile) {
        if (current!.part.name === 'file') this.meter.push(piece.bytes);
      } else {
        if (current!.bytes > MAX_FIELD_BYTES)
          throw wrong(current!.part.name.slice(0, 100), `is longer than ${MAX_FIELD_BYTES} bytes`);
        if (READ.has(current!.part.name)) current!.text = Buffer.concat([current!.text, piece.bytes]);
      }
      return;
    }
    this.endOfPart();
    if (piece.kind === 'part') this.beginOfPart(piece.part);
    else if (!this.hasFile) throw wrong('file', 'is missing');
  }

  private beginOfPart(part: Part): void {
    const { name, isFile } = part;
    if (name === 'file') {
      if (!isFile) throw wrong('file', 'must be a file: its part needs a filename');
      if (this.hasFile) throw wrong('file', 'is there twice');
      this.hasFile = true;
    } else if (READ.has(name)) {
      if (isFile) throw wrong(name, 'must be a field, not a file');
      if (this.fields.has(name)) throw wrong(name, 'is there twice');
    }
    this.current = { part, bytes: 0, text: NOTHING };
  }

  private endOfPart(): void {
    const { current } = this;
    if (!current || !READ.has(current.part.name)) return;
    const { name } = current.part;
    const value = current.text.toString('utf8');
    if (name === 'model' && (value === '' || value.length > MAX_MODEL))
      throw wrong('model', `must have 1 to ${MAX_MODEL} characters`);
    if (name === 'stream' && !TRUE.has(value.toLowerCase()) && !FALSE.has(value.toLowerCase()))
      throw wrong('stream', 'must be true or false');
    if (name === 'response_format' && !FORMATS.has(value))
      throw wrong('response_format', `must be one of ${[...FORMATS].join(', ')}`);
    this.fields.set(name, value);
  }

  private written(piece: Piece): Buffer {
    if (piece.kind === 'data') {
      if (this.writes === 'as it is') return piece.bytes;
      const text = this.writes === 'the model' ? Buffer.from(this.workersModel!) : NOTHING;
      this.writes = 'nothing';
      return text;
    }
    if (piece.kind === 'end') return Buffer.concat([this.added(), piece.bytes]);
    const { name } = piece.part;
    this.writes = name === 'model' ? 'the model' : FORCED.includes(name) ? 'nothing' : 'as it is';
    if (this.writes === 'nothing') return NOTHING;
    // Where the first part was left out its successor is the first.
    const bytes = this.wrote || piece.bytes[0] !== CR ? piece.bytes : piece.bytes.subarray(2);
    this.wrote = true;
    return bytes;
  }

  /** Parts of our own, before the end. */
  private added(): Buffer {
    const fields: [string, string][] = this.model === undefined ? [['model', this.workersModel!]] : [];
    if (this.stream) fields.push(...FORCED.map((name): [string, string] => [name, 'true']));
    const text = fields.map(
      ([name, value]) => `\r\n--${this.boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}`,
    );
    return Buffer.from(text.join(''));
  }
}

/** What is left of a form whose end never came. */
export const brokenOff = (): Rejected => malformed('It ended before its last boundary.');

const wrong = (param: string, what: string): Rejected =>
  new Rejected('invalid_request', `${param} ${what}.`, { param });

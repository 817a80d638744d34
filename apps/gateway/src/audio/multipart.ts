import { Rejected } from '@sluice/contracts/errors';

export interface Part {
  readonly name: string;
  /** It has a file name; everything else is a field. */
  readonly isFile: boolean;
}

/** A form in pieces: laid end to end, their bytes are the form as it came, but for what follows its end. */
export type Piece =
  | { readonly kind: 'part'; readonly part: Part; readonly bytes: Buffer }
  /** Of the content of the part before. */
  | { readonly kind: 'data'; readonly bytes: Buffer }
  | { readonly kind: 'end'; readonly bytes: Buffer };

const MAX_HEAD_BYTES = 8 * 1024;
const MAX_PARTS = 100;
const MAX_BOUNDARY = 70;

const CRLF = Buffer.from('\r\n');
const HEAD_END = Buffer.from('\r\n\r\n');

/** @throws Rejected `unsupported_media_type`, `invalid_request` */
export function boundaryOf(contentType: string | undefined): string {
  if (!/^multipart\/form-data\s*(;|$)/i.test(contentType ?? ''))
    throw new Rejected('unsupported_media_type', 'Send multipart/form-data.');
  const [, quoted, plain] = /;\s*boundary=(?:"([^"\r\n]+)"|([^\s;",]+))/i.exec(contentType!) ?? [];
  const boundary = quoted ?? plain;
  if (boundary === undefined || boundary.length > MAX_BOUNDARY)
    throw malformed(`The content-type needs a boundary of at most ${MAX_BOUNDARY} characters.`);
  return boundary;
}

/**
 * Cuts multipart/form-data into its pieces while it comes, wherever the network cut it. Parsers from elsewhere give parts
 * away decoded; here the bytes have to stay what they were. It reads what clients write (RFC 7578), not all that MIME
 * allows: no preamble, no folded headers, no blanks behind a boundary.
 */
export class MultipartScanner {
  private readonly delimiter: Buffer;
  private rest: Buffer;
  private state: 'delimiter' | 'head' | 'data' | 'done' = 'delimiter';
  /** Bytes of `rest` that were looked through. */
  private scanned = 0;
  private parts = 0;

  constructor(boundary: string) {
    this.delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1');
    // The first boundary has no line before it: it is read as if it had.
    this.rest = CRLF;
  }

  get ended(): boolean {
    return this.state === 'done';
  }

  /** @throws Rejected `invalid_request` */
  push(chunk: Buffer): Piece[] {
    const pieces: Piece[] = [];
    if (this.state === 'done') return pieces;
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    while (this.step(pieces));
    return pieces;
  }

  /** False: more bytes are needed, or none. */
  private step(pieces: Piece[]): boolean {
    switch (this.state) {
      case 'delimiter':
        return this.atDelimiter(pieces);
      case 'head':
        return this.inHead(pieces);
      case 'data':
        return this.inData(pieces);
      case 'done':
        return false;
    }
  }

  /** `rest` begins with what has to be the delimiter. */
  private atDelimiter(pieces: Piece[]): boolean {
    const { delimiter, rest } = this;
    const seen = Math.min(rest.length, delimiter.length);
    if (rest.compare(delimiter, 0, seen, 0, seen) !== 0) throw malformed('The form does not begin with its boundary.');
    if (rest.length < delimiter.length + 2) return false;
    const mark = rest.toString('latin1', delimiter.length, delimiter.length + 2);
    if (mark === '--') {
      pieces.push({ kind: 'end', bytes: Buffer.concat([delimiter, Buffer.from('--\r\n')]) });
      this.rest = Buffer.alloc(0);
      this.state = 'done';
      return false;
    }
    if (mark !== '\r\n') throw malformed('A boundary is not followed by a line end.');
    if (++this.parts > MAX_PARTS) throw malformed(`The form has more than ${MAX_PARTS} parts.`);
    this.state = 'head';
    this.scanned = delimiter.length;
    return true;
  }

  private inHead(pieces: Piece[]): boolean {
    const end = this.rest.indexOf(HEAD_END, this.scanned);
    if ((end === -1 ? this.rest.length : end) > MAX_HEAD_BYTES) throw malformed('The headers of a part are too long.');
    if (end === -1) {
      this.scanned = Math.max(this.delimiter.length, this.rest.length - HEAD_END.length + 1);
      return false;
    }
    const bytes = this.rest.subarray(0, end + HEAD_END.length);
    const part = partOf(bytes.toString('utf8', this.delimiter.length + 2, end));
    // The first boundary came without the line end that it was given.
    pieces.push({ kind: 'part', part, bytes: this.parts > 1 ? bytes : bytes.subarray(CRLF.length) });
    this.rest = this.rest.subarray(bytes.length);
    this.state = 'data';
    return true;
  }

  private inData(pieces: Piece[]): boolean {
    const at = this.rest.indexOf(this.delimiter);
    // What may be the beginning of a delimiter waits for its end.
    const sure = at === -1 ? this.rest.length - this.delimiter.length + 1 : at;
    if (sure > 0) {
      pieces.push({ kind: 'data', bytes: this.rest.subarray(0, sure) });
      this.rest = this.rest.subarray(sure);
    }
    if (at === -1) return false;
    this.state = 'delimiter';
    return true;
  }
}

/** @throws Rejected `invalid_request` */
function partOf(head: string): Part {
  const dispositions = head.split('\r\n').filter((line) => /^content-disposition\s*:/i.test(line));
  const parameters = /:\s*form-data\s*;(.*)$/is.exec(dispositions[0] ?? '')?.[1];
  if (dispositions.length !== 1 || parameters === undefined)
    throw malformed('Each part needs one header "Content-Disposition: form-data; name=…".');
  // Quoted strings are taken out one by one, so that one within a file name is not taken for a parameter.
  const found = new Map<string, string>();
  for (const [, key, quoted, plain] of parameters.matchAll(/([\w*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/gs))
    if (!found.has(key!.toLowerCase())) found.set(key!.toLowerCase(), quoted ?? plain!);
  const name = found.get('name');
  if (name === undefined || name === '') throw malformed('A part has no name.');
  return { name, isFile: found.has('filename') || found.has('filename*') };
}

export const malformed = (sentence: string): Rejected =>
  new Rejected('invalid_request', `The form cannot be read. ${sentence}`);

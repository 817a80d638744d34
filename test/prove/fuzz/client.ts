// A client that may send anything: bytes in pieces, on a socket of its own for each case.
import { connect, type Socket } from 'node:net';

/** Longer than any deadline that a case gives: who has said nothing by then hangs. */
const HANGS_AFTER_MS = 90_000;

/** When a client goes away, and how. */
export interface Leaving {
  /** Bytes of the answer that it waits for; 0: as soon as it has sent. */
  readonly afterBytes: number;
  readonly how: 'fin' | 'reset';
}

export interface Sending {
  readonly bytes: Buffer;
  /** Where the bytes are cut; each piece is a write of its own. */
  readonly cuts: readonly number[];
  readonly leaving?: Leaving | undefined;
}

export interface Heard {
  /** Undefined: the server closed without an answer, or the client left. */
  readonly status: number | undefined;
  readonly headers: ReadonlyMap<string, string>;
  /** Without the transfer coding. */
  readonly body: Buffer;
  /** By the rules of HTTP. */
  readonly whole: boolean;
  readonly hung: boolean;
}

/** Sends and listens until the answer is whole, or the connection is gone. Never throws. */
export function converse(port: number, { bytes, cuts, leaving }: Sending, head = false): Promise<Heard> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const heard: Buffer[] = [];
    let length = 0;
    let settled = false;
    const settle = (hung = false) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      const answer = readAnswer(Buffer.concat(heard, length), true, head);
      if (!socket.destroyed) socket.destroy();
      resolve({ ...(answer ?? NOTHING), hung });
    };
    const timer = setTimeout(() => settle(true), HANGS_AFTER_MS);
    const leave = ({ how }: Leaving) => {
      if (how === 'reset') socket.resetAndDestroy();
      else socket.end();
      if (how === 'reset') settle();
    };
    socket.on('error', () => settle());
    socket.on('close', () => settle());
    socket.on('data', (chunk: Buffer) => {
      heard.push(chunk);
      length += chunk.length;
      if (leaving && length >= leaving.afterBytes) leave(leaving);
      else if (readAnswer(Buffer.concat(heard, length), false, head)?.whole) settle();
    });
    socket.on('connect', () => {
      const sent = () => {
        if (leaving?.afterBytes === 0) leave(leaving);
      };
      void sendIn(socket, bytes, cuts, sent);
    });
  });
}

async function sendIn(socket: Socket, bytes: Buffer, cuts: readonly number[], sent: () => void): Promise<void> {
  const points = [0, ...[...new Set(cuts)].filter((at) => at < bytes.length).sort((a, b) => a - b), bytes.length];
  for (let i = 1; i < points.length && socket.writable; i++) {
    socket.write(bytes.subarray(points[i - 1], points[i]));
    await new Promise((next) => setImmediate(next));
  }
  sent();
}

const NOTHING: Omit<Heard, 'hung'> = { status: undefined, headers: new Map(), body: Buffer.alloc(0), whole: false };

/** The first final answer of a connection; undefined while its head is not here. */
function readAnswer(bytes: Buffer, closed: boolean, head: boolean): Omit<Heard, 'hung'> | undefined {
  for (let from = 0; ;) {
    const end = bytes.indexOf('\r\n\r\n', from);
    if (end === -1) return undefined;
    const [line = '', ...fields] = bytes.toString('latin1', from, end).split('\r\n');
    const status = Number(/^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(line)?.[1]);
    const headers = new Map(
      fields.map((field) => {
        const colon = field.indexOf(':');
        return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()];
      }),
    );
    const rest = bytes.subarray(end + 4);
    if (status >= 100 && status < 200) {
      from = end + 4;
      continue;
    }
    if (head || status === 204 || status === 304) return { status, headers, body: Buffer.alloc(0), whole: true };
    if (/chunked/i.test(headers.get('transfer-encoding') ?? '')) return { status, headers, ...unchunk(rest) };
    const length = headers.get('content-length');
    if (length === undefined) return { status, headers, body: rest, whole: closed };
    return { status, headers, body: rest.subarray(0, Number(length)), whole: rest.length >= Number(length) };
  }
}

function unchunk(bytes: Buffer): { body: Buffer; whole: boolean } {
  const parts: Buffer[] = [];
  for (let at = 0; ;) {
    const end = bytes.indexOf('\r\n', at);
    if (end === -1) return { body: Buffer.concat(parts), whole: false };
    const size = Number.parseInt(bytes.toString('latin1', at, end), 16);
    const last = end + 2 + size;
    parts.push(bytes.subarray(end + 2, last));
    if (size === 0 || bytes.length < last + 2) return { body: Buffer.concat(parts), whole: size === 0 };
    at = last + 2;
  }
}

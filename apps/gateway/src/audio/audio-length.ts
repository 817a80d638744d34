/** How long a sound is. */
export interface AudioLength {
  readonly ms: number;
  /** The worker said so; its bytes say so, in a format that cannot lie; or it is a guess. */
  readonly by: 'worker' | 'bytes' | 'guess';
}

/** Enough for the chunks before the samples of a WAV, and the frames behind a small ID3 tag. */
const HEAD_BYTES = 64 * 1024;
/**
 * Of sounds that are compressed and say nothing that is understood here. Few recordings of speech have less, so that
 * this guess is rather too long than too short.
 */
const GUESSED_BYTES_PER_SECOND = 4_000;
/** Of MPEG 1 layer III and MPEG 2 and 2.5 layer III, in kbit/s, by the index in a frame's header. */
const MP3_RATES = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const MP3_LOW_RATES = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

/** Listens to a file while it passes: keeps its beginning, and counts the rest. */
export class AudioMeter {
  private head = Buffer.alloc(0);
  private bytes = 0;

  push(chunk: Buffer): void {
    if (this.head.length < HEAD_BYTES)
      this.head = Buffer.concat([this.head, chunk.subarray(0, HEAD_BYTES - this.head.length)]);
    this.bytes += chunk.length;
  }

  length(): AudioLength {
    return lengthOf(this.head, this.bytes);
  }
}

/**
 * A WAV is as long as its samples, whatever its header claims, as who decodes it plays them. What other formats say of
 * themselves nobody has to believe, so it is a guess. No library reads them: it would have to take apart bytes from
 * anybody in the process that all requests pass through.
 * @param head the beginning of the file
 * @param bytes all of it
 */
export function lengthOf(head: Buffer, bytes: number): AudioLength {
  const wav = wavMs(head, bytes);
  if (wav !== undefined) return { ms: wav, by: 'bytes' };
  return { ms: flacMs(head) ?? mp3Ms(head, bytes) ?? toMs(bytes, GUESSED_BYTES_PER_SECOND), by: 'guess' };
}

const toMs = (bytes: number, bytesPerSecond: number): number => Math.ceil((bytes * 1_000) / bytesPerSecond);

function wavMs(head: Buffer, bytes: number): number | undefined {
  if (!is(head, 0, 'RIFF') || !is(head, 8, 'WAVE')) return undefined;
  let rate = 0;
  for (let at = 12; at + 8 <= head.length;) {
    const size = head.readUInt32LE(at + 4);
    if (is(head, at, 'fmt ') && at + 24 <= head.length) rate = pcmRate(head, at + 8);
    if (is(head, at, 'data')) {
      const there = Math.max(0, bytes - at - 8);
      // Who writes as it records knows no size, and says 0 or the largest there is.
      return rate > 0 ? toMs(size === 0 ? there : Math.min(size, there), rate) : undefined;
    }
    at += 8 + size + (size % 2);
  }
  return undefined;
}

/** Bytes per second of samples as they are: from their shape, not from the field that repeats it. 0: compressed. */
function pcmRate(head: Buffer, format: number): number {
  const codec = head.readUInt16LE(format);
  // Whole numbers, floats, A-law, µ-law, and the form that says which of them further on.
  if (![1, 3, 6, 7, 0xfffe].includes(codec)) return 0;
  return head.readUInt16LE(format + 2) * head.readUInt32LE(format + 4) * Math.ceil(head.readUInt16LE(format + 14) / 8);
}

/** The first block says rate and samples. */
function flacMs(head: Buffer): number | undefined {
  if (!is(head, 0, 'fLaC') || head.length < 26) return undefined;
  const rate = head.readUIntBE(18, 3) >> 4;
  const samples = (head[21]! & 0x0f) * 2 ** 32 + head.readUInt32BE(22);
  return rate > 0 && samples > 0 ? Math.ceil((samples * 1_000) / rate) : undefined;
}

/** As if all frames had the rate of the first. */
function mp3Ms(head: Buffer, bytes: number): number | undefined {
  let at = 0;
  if (is(head, 0, 'ID3') && head.length >= 10)
    at = 10 + head.subarray(6, 10).reduce((size, byte) => size * 128 + (byte & 0x7f), 0);
  if (at + 4 > head.length || head[at] !== 0xff) return undefined;
  const version = (head[at + 1]! >> 3) & 3;
  const isLayer3 = (head[at + 1]! & 0xe6) === 0xe2;
  const kbits = (version === 3 ? MP3_RATES : MP3_LOW_RATES)[head[at + 2]! >> 4];
  return isLayer3 && version !== 1 && kbits ? toMs(bytes - at, kbits * 125) : undefined;
}

const is = (head: Buffer, at: number, name: string): boolean => head.toString('latin1', at, at + name.length) === name;

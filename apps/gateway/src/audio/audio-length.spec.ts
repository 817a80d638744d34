import { describe, expect, it } from '@jest/globals';
import { AudioMeter, lengthOf } from './audio-length.js';

interface Wav {
  codec?: number;
  channels?: number;
  rate?: number;
  bits?: number;
  /** What the header says of the samples; there are `bytes` of them. */
  claimed?: number;
  bytes?: number;
  before?: Buffer;
}
function wav({ codec = 1, channels = 1, rate = 16_000, bits = 16, bytes = 32_000, claimed = bytes, before }: Wav = {}) {
  const head = Buffer.alloc(36);
  head.write('RIFF', 0);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(codec, 20);
  head.writeUInt16LE(channels, 22);
  head.writeUInt32LE(rate, 24);
  // Bytes per second as it likes: nobody plays by it.
  head.writeUInt32LE(1, 28);
  head.writeUInt16LE(bits, 34);
  const data = Buffer.alloc(8);
  data.write('data', 0);
  data.writeUInt32LE(claimed, 4);
  return Buffer.concat([head, before ?? Buffer.alloc(0), data, Buffer.alloc(bytes)]);
}
const chunk = (name: string, size: number) => {
  const bytes = Buffer.alloc(8 + size + (size % 2));
  bytes.write(name, 0);
  bytes.writeUInt32LE(size, 4);
  return bytes;
};
const length = (file: Buffer) => lengthOf(file.subarray(0, 65_536), file.length);

describe('the length of a sound', () => {
  it.each([
    ['a second', {}, 1_000],
    ['a begun millisecond', { bytes: 33 }, 2],
    ['stereo, 24 bit, 48 kHz', { channels: 2, bits: 24, rate: 48_000, bytes: 288_000 }, 1_000],
    ['µ-law, 8 kHz', { codec: 7, bits: 8, rate: 8_000, bytes: 4_000 }, 500],
    ['floats', { codec: 3, bits: 32, bytes: 64_000 }, 1_000],
    ['with chunks before its samples', { before: Buffer.concat([chunk('LIST', 25), chunk('bext', 602)]) }, 1_000],
    ['that was written while it was recorded', { claimed: 0xffff_ffff }, 1_000],
    ['that never learned its size', { claimed: 0 }, 1_000],
    ['with something behind its samples', { claimed: 16_000 }, 500],
    ['that claims more than there is', { claimed: 1_000_000_000 }, 1_000],
  ])('of a WAV is that of its samples: %s', (_, shape: Wav, ms) => {
    expect(length(wav(shape))).toEqual({ ms, by: 'bytes' });
  });

  it('of a FLAC is a guess by what it says', () => {
    const file = Buffer.alloc(5_000);
    file.write('fLaC', 0);
    file.writeUIntBE((44_100 << 4) | 0, 18, 3);
    file.writeUInt32BE(44_100 * 3, 22);
    expect(length(file)).toEqual({ ms: 3_000, by: 'guess' });
  });

  it.each([
    ['128 kbit/s', Buffer.from([0xff, 0xfb, 0x90, 0x00]), 16_000],
    ['MPEG 2, 64 kbit/s', Buffer.from([0xff, 0xf3, 0x80, 0x00]), 8_000],
  ])('of an MP3 is a guess by the rate of its first frame: %s, with and without a tag', (_, frame, perSecond) => {
    const file = Buffer.concat([frame, Buffer.alloc(perSecond * 2 - 4)]);
    const tag = Buffer.from([0x49, 0x44, 0x33, 3, 0, 0, 0, 0, 1, 2]);
    expect(length(file)).toEqual({ ms: 2_000, by: 'guess' });
    expect(length(Buffer.concat([tag, Buffer.alloc(130), file]))).toEqual({ ms: 2_000, by: 'guess' });
  });

  it.each([
    ['what says nothing', Buffer.alloc(8_000, 'x')],
    ['a compressed WAV', wav({ codec: 0x55, bytes: 7_956 })],
    ['a WAV of nothing a second', wav({ rate: 0, bytes: 7_956 })],
    ['an MP3 without a rate', Buffer.concat([Buffer.from([0xff, 0xfb, 0x00, 0x00]), Buffer.alloc(7_996)])],
  ])('of %s is a guess by its size', (_, file) => {
    expect(length(file)).toEqual({ ms: 2_000, by: 'guess' });
  });

  it.each([0, 1, 11, 12, 20, 43, 44])('of %d bytes of a file is told without a fault', (bytes) => {
    for (const file of [wav(), Buffer.from('fLaC'.padEnd(50)), Buffer.from('ID3'.padEnd(50))])
      expect(length(file.subarray(0, bytes)).ms).toBeGreaterThanOrEqual(0);
  });

  it('is the same however the file comes, and only its beginning is kept', () => {
    const file = wav({ bytes: 320_000 });
    const meter = new AudioMeter();
    for (let at = 0; at < file.length; at += 7_777) meter.push(file.subarray(at, at + 7_777));
    expect(meter.length()).toEqual({ ms: 10_000, by: 'bytes' });
  });
});

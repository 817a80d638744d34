/** Of what is no WAV: 128 kbit/s. */
const BYTES_PER_SECOND = 16_000;
const WAV_HEADER = 44;

/** The length of a sound file. A plain WAV says its bytes per second; other formats are not decoded here. */
export function secondsOf(head: Buffer, bytes: number): number {
  const wav = head.length >= WAV_HEADER && head.toString('latin1', 0, 4) === 'RIFF';
  const rate = wav ? head.readUInt32LE(28) : 0;
  return rate > 0 ? (bytes - WAV_HEADER) / rate : bytes / BYTES_PER_SECOND;
}

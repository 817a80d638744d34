// What tests of transcriptions send.
import { request as httpRequest } from 'node:http';
import { toFile } from 'openai';

/** Silence of 16 kHz, 16 bit, mono: 32,000 bytes a second. */
export function wav(seconds: number): Promise<File> {
  const data = Buffer.alloc(44 + seconds * 32_000);
  data.write('RIFF', 0);
  data.writeUInt32LE(data.length - 8, 4);
  data.write('WAVEfmt ', 8);
  data.writeUInt32LE(16, 16);
  data.writeUInt16LE(1, 20);
  data.writeUInt16LE(1, 22);
  data.writeUInt32LE(16_000, 24);
  data.writeUInt32LE(32_000, 28);
  data.writeUInt16LE(2, 32);
  data.writeUInt16LE(16, 34);
  data.write('data', 36);
  data.writeUInt32LE(data.length - 44, 40);
  return toFile(data, 'a.wav', { type: 'audio/wav' });
}

interface Where {
  readonly baseUrl: string;
  readonly key: string;
  readonly model: string;
}

/** An upload whose every byte the test sends itself. */
export function rawUpload({ baseUrl, key, model }: Where, headers: Record<string, string> = {}) {
  const request = httpRequest(`${baseUrl}/v1/audio/transcriptions`, {
    method: 'POST',
    headers: { 'x-api-key': key, 'content-type': 'multipart/form-data; boundary=b', ...headers },
  });
  const answered = new Promise<{ status: number; body: string }>((resolve, reject) => {
    request.on('error', reject).on('response', (response) => {
      void response
        .toArray()
        .then((chunks) => resolve({ status: response.statusCode!, body: chunks.join('') }), reject);
    });
  });
  answered.catch(() => {});
  const part = (name: string, more = '') => `--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`;
  request.write(`${part('model')}${model}\r\n${part('file', '; filename="a.bin"')}`);
  const write = (bytes: Buffer) =>
    new Promise<void>((resolve, reject) => request.write(bytes, (error) => (error ? reject(error) : resolve())));
  return { request, answered, write, end: () => request.end('\r\n--b--\r\n') };
}

import { describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { AudioMeter } from './audio-length.js';
import { TranscriptionForm } from './transcription-form.js';

type Fields = readonly (readonly [name: string, value: string | File])[];
const file = new File([Buffer.from('RIFF\r\n--x\0')], 'ä "1".wav', { type: 'audio/wav' });

/** As a client of this platform writes it. */
async function written(fields: Fields) {
  const data = new FormData();
  for (const [name, value] of fields) data.append(name, value);
  const request = new Request('http://x', { method: 'POST', body: data });
  const type = request.headers.get('content-type')!;
  return { bytes: Buffer.from(await request.arrayBuffer()), type, boundary: type.split('boundary=')[1]! };
}
async function form(fields: Fields, chunk = 1_000_000) {
  const { bytes, type, boundary } = await written(fields);
  const meter = new AudioMeter();
  const form = new TranscriptionForm(boundary, meter);
  return {
    form,
    meter,
    bytes,
    /** All of it for the worker, and as the worker reads it. */
    passed: async (model = 'theirs') => {
      form.goesTo(model);
      const out: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += chunk) {
        form.push(bytes.subarray(at, at + chunk));
        out.push(form.take());
      }
      const all = Buffer.concat(out);
      const read = await new Response(all, { headers: { 'content-type': type } }).formData();
      return { all, read: [...read.entries()] };
    },
  };
}
const refused = async (fields: Fields) => {
  const { passed } = await form(fields);
  const error = await passed().catch((error: unknown) => error);
  expect(error).toBeInstanceOf(Rejected);
  return error as Rejected;
};

describe('the form of a transcription', () => {
  it.each([1, 7, 64, 1_000_000])('passes byte for byte but for its model, in pieces of %d bytes', async (chunk) => {
    const fields = [
      ['prompt', 'a\r\nb'],
      ['model', 'mine'],
      ['temperature', '0'],
      ['file', file],
      ['x', 'y'],
    ] as const;
    const { passed, bytes } = await form(fields, chunk);
    const { all } = await passed();
    expect(all.toString('latin1')).toBe(bytes.toString('latin1').replace('\r\n\r\nmine\r\n', '\r\n\r\ntheirs\r\n'));
  });

  it.each([1, 1_000_000])(
    'forces the usage of a stream, also against the client’s wish (pieces of %d)',
    async (chunk) => {
      const wish = ['stream_include_usage', 'false'] as const;
      for (const fields of [
        [wish, ['model', 'mine'], ['stream', 'True'], ['file', file]],
        [['file', file], wish, ['model', 'mine'], ['stream', '1']],
      ] as const) {
        const { passed, form: read } = await form(fields, chunk);
        const { read: seen, all } = await passed();
        expect(all.subarray(0, 2).toString()).toBe('--');
        expect(seen.map(([name]) => name).toSorted()).toEqual(
          ['file', 'model', 'stream', 'stream_continuous_usage_stats', 'stream_include_usage'].toSorted(),
        );
        expect(Object.fromEntries(seen)).toMatchObject({
          model: 'theirs',
          stream_include_usage: 'true',
          stream_continuous_usage_stats: 'true',
        });
        expect(read.stream).toBe(true);
      }
    },
  );

  it('without a model gets the worker’s', async () => {
    const { read } = await (await form([['file', file]])).passed();
    expect(read.map(([name]) => name)).toEqual(['file', 'model']);
    expect(read[1]![1]).toBe('theirs');
    expect(Buffer.from(await (read[0]![1] as File).arrayBuffer()).toString('latin1')).toBe('RIFF\r\n--x\0');
  });

  it('is known as far as it has come', async () => {
    const { form: read, bytes } = await form([
      ['model', 'mine'],
      ['file', file],
      ['stream', 'true'],
    ]);
    expect([read.model, read.fileBegan]).toEqual([undefined, false]);
    const begin = bytes.indexOf('RIFF');
    read.push(bytes.subarray(0, begin));
    expect([read.model, read.fileBegan, read.stream, read.ended]).toEqual(['mine', true, false, false]);
    read.push(bytes.subarray(begin));
    expect([read.stream, read.ended]).toEqual([true, true]);
  });

  it('is listened to where its file is', async () => {
    const { passed, meter } = await form([
      ['other', new File([Buffer.alloc(9_000)], 'b')],
      ['file', new File([Buffer.alloc(8_000, 1)], 'a')],
    ]);
    await passed();
    expect(meter.length().ms).toBe(2_000);
  });

  it.each([
    ['no file', [['model', 'm']], 'file'],
    [
      'a file that is text',
      [
        ['model', 'm'],
        ['file', 'text'],
      ],
      'file',
    ],
    [
      'two files',
      [
        ['model', 'm'],
        ['file', file],
        ['file', file],
      ],
      'file',
    ],
    [
      'two models',
      [
        ['model', 'm'],
        ['model', 'n'],
        ['file', file],
      ],
      'model',
    ],
    [
      'an empty model',
      [
        ['model', ''],
        ['file', file],
      ],
      'model',
    ],
    [
      'a long model',
      [
        ['model', 'm'.repeat(257)],
        ['file', file],
      ],
      'model',
    ],
    [
      'a model that is a file',
      [
        ['model', file],
        ['file', file],
      ],
      'model',
    ],
    [
      'an unknown format',
      [
        ['model', 'm'],
        ['file', file],
        ['response_format', 'xml'],
      ],
      'response_format',
    ],
    [
      'no truth',
      [
        ['model', 'm'],
        ['stream', 'perhaps'],
        ['file', file],
      ],
      'stream',
    ],
    [
      'a long field',
      [
        ['model', 'm'],
        ['prompt', 'p'.repeat(70_000)],
        ['file', file],
      ],
      'prompt',
    ],
  ] as const)('with %s is refused by name', async (_, fields, param) => {
    expect(await refused(fields)).toMatchObject({ code: 'invalid_request', param });
  });
});

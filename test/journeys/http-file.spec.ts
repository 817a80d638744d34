import { describe, expect, it } from '@jest/globals';
import { fill, parseHttpFile } from './http-file.ts';

const FILE = `# What a reader needs to know
@base = http://127.0.0.1:8787
@key=sk_…

### Made
# 201
# @name made
// a remark, and 404 in it means nothing
POST {{base}}/things?a=1 HTTP/1.1
Authorization: Bearer {{key}}
# of no use: here
Content-Type: application/json

{
  "name": "a: b",

  "in": {"deep": {"er": "{{key}}"}}
}

### Read
GET {{base}}/things/{{made.response.body.$.data.id}}
`;
const ANSWERS = new Map([['made', { data: { id: 'thing-7', size: 3, parts: {} } }]]);
const VALUES = { base: 'http://gateway', key: 'k' };

describe('parseHttpFile', () => {
  it('ends the lines of a form as forms do', () => {
    const text = '### Form\nPOST /x\nContent-Type: multipart/form-data; boundary=b\n\n--b\nX: y\n\nz\n--b--\n';
    expect(parseHttpFile(text).requests[0]!.body).toBe('--b\r\nX: y\r\n\r\nz\r\n--b--');
  });

  it('finds variables, and each request with its title, name, expected status, headers and whole body', () => {
    expect(parseHttpFile(FILE)).toEqual({
      variables: ['base', 'key'],
      requests: [
        {
          title: 'Made',
          name: 'made',
          status: 201,
          method: 'POST',
          url: '{{base}}/things?a=1',
          headers: { Authorization: 'Bearer {{key}}', 'Content-Type': 'application/json' },
          body: '{\n  "name": "a: b",\n\n  "in": {"deep": {"er": "{{key}}"}}\n}',
        },
        {
          title: 'Read',
          name: undefined,
          status: 200,
          method: 'GET',
          url: '{{base}}/things/{{made.response.body.$.data.id}}',
          headers: {},
          body: undefined,
        },
      ],
    });
  });

  it('reads a file with the line ends of Windows the same', () => {
    const body = (text: string | undefined) => text?.replaceAll('\r', '');
    const same = ({ requests }: ReturnType<typeof parseHttpFile>) =>
      requests.map((r) => ({ ...r, body: body(r.body) }));
    expect(same(parseHttpFile(FILE.replaceAll('\n', '\r\n')))).toEqual(same(parseHttpFile(FILE)));
  });

  it.each([
    ['a request without a title', '###\nGET http://a/'],
    ['a request without a title', 'GET http://a/'],
    ['not a request line', '### x\nhttp://a/'],
    ['not a header', '### x\nGET http://a/\n  &b=1'],
  ])('passes over nothing that it does not understand: %s', (message, text) => {
    expect(() => parseHttpFile(text)).toThrow(message);
  });
});

describe('fill', () => {
  const [made, read] = parseHttpFile(FILE).requests as [never, never];

  it('puts in variables and what earlier requests answered, wherever they stand', () => {
    expect(fill(made, VALUES, new Map())).toMatchObject({
      url: 'http://gateway/things?a=1',
      headers: { Authorization: 'Bearer k' },
      body: expect.stringContaining('{"deep": {"er": "k"}}'),
    });
    expect(fill(read, VALUES, ANSWERS).url).toBe('http://gateway/things/thing-7');
  });

  it.each([
    'key',
    'made.response.body.$.data.nothing',
    'made.response.body.$.a.b.c',
    'made.response.body.$.data.parts',
  ])('sends nothing with a gap in it: {{%s}}', (reference) => {
    const request = parseHttpFile(`### x\nGET http://a/{{${reference}}}`).requests[0]!;
    expect(() => fill(request, { base: 'b' }, ANSWERS)).toThrow(`{{${reference}}} has no value`);
  });
});

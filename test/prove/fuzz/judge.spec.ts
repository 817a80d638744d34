import { describe, expect, it } from '@jest/globals';
import { request, type Case, type Field, type Kind } from './case.ts';
import { judge } from './judge.ts';

const ANTHROPIC = { type: 'error', error: { type: 'not_found_error', message: 'x' }, request_id: 'r' };
const OPENAI = { error: { code: 'model_not_found', type: 'invalid_request_error', message: 'x', param: 'model' } };
const BOTH = { ...ANTHROPIC, success: false, error: { ...OPENAI.error, code: 'invalid_request' } };
const VERSION: Field = ['Anthropic-Version', '2023-06-01'];

function judged(answer: object, path: string, fields: readonly Field[] = [], method = 'GET', kind: Kind = 'edge') {
  const bytes = request(method, path, [['authorization', 'Bearer x'], ...fields], Buffer.from('anthropic-version: 1'));
  const one: Case = { kind, what: '', method, path, sending: { bytes, cuts: [] } };
  return judge(one, {
    status: 404,
    headers: new Map([['x-request-id', 'r']]),
    body: Buffer.from(JSON.stringify(answer)),
    whole: true,
    hung: false,
  });
}

describe('a refusal', () => {
  it.each([
    ['of models', ANTHROPIC, '/v1/models', [VERSION]],
    ['of a model, by its whole address', ANTHROPIC, 'http://elsewhere/v1/models/m', [VERSION]],
    ['of models', OPENAI, '/w/a/b/v1/models?x=1', []],
    ['of messages', ANTHROPIC, '/inference/v1/messages/x', []],
    ['of messages, with a blank behind it', ANTHROPIC, '/v1/messages ', []],
    ['of chat', OPENAI, '/v1/chat/completions', [VERSION]],
    ['of what has no dialect', BOTH, '/v1/models', []],
    ['of what has no dialect', BOTH, '/v1/messages', []],
  ])('%s in its dialect is right: %j %s', (_what, answer, path, fields) =>
    expect(judged(answer, path, fields)).toBeUndefined(),
  );

  it.each([
    ["of models in Anthropic's, though no header asked for it", ANTHROPIC, '/v1/models', []],
    [
      "of models in Anthropic's, for a header that is another's",
      ANTHROPIC,
      '/v1/models',
      [['x-anthropic-version', '1']],
    ],
    ["of models in OpenAI's, though the header asked for the other", OPENAI, '/v1/models/m', [VERSION]],
    ["of chat in Anthropic's", ANTHROPIC, '/v1/chat/completions', [VERSION]],
    ["of messages in OpenAI's", OPENAI, '/v1/messages', [VERSION]],
  ])('%s is wrong', (_what, answer, path, fields) =>
    expect(judged(answer, path, fields as Field[])).toMatch(/^status 404 in .*dialect/),
  );

  it("of a request whose bytes were damaged, or of another method of models, need not be in Anthropic's", () => {
    expect(judged(OPENAI, '/v1/messages', [], 'POST', 'raw')).toBeUndefined();
    expect(judged(ANTHROPIC, '/v1/chat/completions', [], 'POST', 'raw')).toMatch(/dialect/);
    expect(judged(OPENAI, '/v1/models', [VERSION], 'POST')).toBeUndefined();
  });
});

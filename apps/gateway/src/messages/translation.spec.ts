import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ERRORS, type Rejected } from '@sluice/contracts/errors';
import { upstreamBody } from '../inference/inference-request.js';
import { readCountTokensRequest, readMessagesRequest } from './translation.js';

const hello = { model: 'm', max_tokens: 10, messages: [{ role: 'user', content: 'Hello!' }] };
const raw = (body: unknown) => Buffer.from(JSON.stringify(body));
const translated = (body: Buffer) => readMessagesRequest(body).translated();
const chat = (more: object) => translated(raw({ ...hello, ...more })).body;
const messages = (...turns: object[]) => chat({ messages: turns })['messages'];
const refusal = (more: object): Rejected => {
  try {
    translated(raw({ ...hello, ...more }));
  } catch (error) {
    return error as Rejected;
  }
  throw new Error('was not refused');
};

const png = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'aGk=' } };
const linked = { type: 'image', source: { type: 'url', url: 'https://example.com/a.jpg' } };
const weather = { name: 'weather', description: 'Weather.', input_schema: { type: 'object', properties: {} } };
const chatTool = (name = 'weather') => ({
  type: 'function',
  function: { name, description: 'Weather.', parameters: weather.input_schema },
});

describe('a conversation', () => {
  it('is the shortest body where little is said', () => {
    expect(chat({})).toEqual({ model: 'm', max_tokens: 10, messages: [{ role: 'user', content: 'Hello!' }] });
    expect(translated(raw({ ...hello, stream: true }))).toMatchObject({ model: 'm', stream: true });
  });

  it.each([
    ['text', 'Be brief.', 'Be brief.'],
    [
      'blocks',
      [
        { type: 'text', text: 'Be', cache_control: { type: 'ephemeral' } },
        { type: 'text', text: 'brief.' },
      ],
      'Be\nbrief.',
    ],
  ])('begins with the system prompt, given as %s', (_how, system, content) => {
    expect(chat({ system })['messages']).toEqual([{ role: 'system', content }, ...hello.messages]);
  });

  it('keeps instructions that come later where they stand', () => {
    expect(messages(...hello.messages, { role: 'system', content: 'Be brief.' })).toEqual([
      ...hello.messages,
      { role: 'system', content: 'Be brief.' },
    ]);
  });

  it('shows images, by their bytes and by their address', () => {
    expect(messages({ role: 'user', content: [png, linked, { type: 'text', text: 'Which?' }] })).toEqual([
      {
        role: 'user',
        content: [
          { type: 'image_url', image_url: { url: 'data:image/png;base64,aGk=' } },
          { type: 'image_url', image_url: { url: 'https://example.com/a.jpg' } },
          { type: 'text', text: 'Which?' },
        ],
      },
    ]);
  });

  it('gives the results of parallel calls right behind them, what they show and what the user says after that', () => {
    expect(
      messages(
        { role: 'user', content: 'Both?' },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'Two calls.', signature: 's' },
            { type: 'redacted_thinking', data: 'x' },
            { type: 'text', text: 'I look.' },
            { type: 'tool_use', id: 'a', name: 'weather', input: { city: 'Paris' } },
            { type: 'tool_use', id: 'b', name: 'camera', input: {} },
          ],
        },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'And?' },
            { type: 'tool_result', tool_use_id: 'a', content: 'rain', is_error: false },
            { type: 'tool_result', tool_use_id: 'b', content: [{ type: 'text', text: 'here' }, png] },
            { type: 'tool_result', tool_use_id: 'c', content: 'no such tool', is_error: true },
            { type: 'tool_result', tool_use_id: 'd' },
          ],
        },
      ),
    ).toEqual([
      { role: 'user', content: 'Both?' },
      {
        role: 'assistant',
        content: 'I look.',
        reasoning: 'Two calls.',
        reasoning_content: 'Two calls.',
        tool_calls: [
          { id: 'a', type: 'function', function: { name: 'weather', arguments: '{"city":"Paris"}' } },
          { id: 'b', type: 'function', function: { name: 'camera', arguments: '{}' } },
        ],
      },
      { role: 'tool', tool_call_id: 'a', content: 'rain' },
      { role: 'tool', tool_call_id: 'b', content: 'here' },
      { role: 'tool', tool_call_id: 'c', content: 'Error: no such tool' },
      { role: 'tool', tool_call_id: 'd', content: '' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'Shown by the tool call b:' },
          { type: 'image_url', image_url: { url: 'data:image/png;base64,aGk=' } },
          { type: 'text', text: 'And?' },
        ],
      },
    ]);
  });

  it('that ends with the assistant goes on there', () => {
    expect(chat({ messages: [...hello.messages, { role: 'assistant', content: 'Well,' }] })).toMatchObject({
      continue_final_message: true,
      add_generation_prompt: false,
    });
  });
});

describe('what is asked of the answer', () => {
  it('is said in the words of chat completions', () => {
    expect(
      chat({
        stop_sequences: ['END'],
        temperature: 0.5,
        top_p: 0.9,
        top_k: 40,
        metadata: { user_id: 'u1' },
        stream: true,
        service_tier: 'auto',
        cache_control: { type: 'ephemeral' },
      }),
    ).toEqual({ ...hello, stop: ['END'], temperature: 0.5, top_p: 0.9, top_k: 40, user: 'u1', stream: true });
  });

  it('keeps what engines have of their own, and nothing can stand in for a field of this path', () => {
    expect(chat({ min_tokens: 3, chat_template_kwargs: { style: 'x' }, tool_calls: null })).toEqual({
      ...hello,
      min_tokens: 3,
      chat_template_kwargs: { style: 'x' },
    });
  });

  it.each([
    [undefined, { tool_choice: 'auto' }],
    [{ type: 'auto' }, { tool_choice: 'auto' }],
    [
      { type: 'auto', disable_parallel_tool_use: true },
      { tool_choice: 'auto', parallel_tool_calls: false },
    ],
    [{ type: 'any' }, { tool_choice: 'required' }],
    [
      { type: 'tool', name: 'weather', disable_parallel_tool_use: true },
      { tool_choice: { type: 'function', function: { name: 'weather' } }, parallel_tool_calls: false },
    ],
    [{ type: 'none' }, { tool_choice: 'none' }],
  ])('tools, chosen by %j', (tool_choice, choice) => {
    expect(chat({ tools: [{ ...weather, cache_control: null }], tool_choice })).toEqual({
      ...hello,
      tools: [chatTool()],
      ...choice,
    });
  });

  it.each([
    [{ type: 'enabled', budget_tokens: 1_024 }, { chat_template_kwargs: { enable_thinking: true, thinking: true } }],
    [{ type: 'adaptive' }, { chat_template_kwargs: { enable_thinking: true, thinking: true } }],
    [
      { type: 'adaptive', display: 'omitted' },
      { chat_template_kwargs: { enable_thinking: true, thinking: true }, include_reasoning: false },
    ],
    [
      { type: 'disabled' },
      { chat_template_kwargs: { enable_thinking: false, thinking: false }, include_reasoning: false },
    ],
  ])('thinking %j', (thinking, said) => expect(chat({ thinking })).toEqual({ ...hello, ...said }));

  it.each([
    [{ effort: 'low' }, { reasoning_effort: 'low' }],
    [{ effort: 'max' }, { reasoning_effort: 'high' }],
    [
      { format: { type: 'json_schema', schema: { type: 'object' } } },
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'output', schema: { type: 'object' }, strict: true },
        },
      },
    ],
  ])('output_config %j', (output_config, said) => expect(chat({ output_config })).toEqual({ ...hello, ...said }));
});

describe('a request is refused, by the name of the field,', () => {
  it.each([
    ['without a length', { max_tokens: undefined }, 'max_tokens'],
    ['with no room for an answer', { max_tokens: 0 }, 'max_tokens'],
    ['without messages', { messages: [] }, 'messages'],
    ['of a role that is none', { messages: [{ role: 'tool', content: 'x' }] }, 'messages.0.role'],
    [
      'with a document',
      { messages: [{ role: 'user', content: [{ type: 'document', source: {} }] }] },
      'messages.0.content.0.type',
    ],
    [
      'with a file',
      { messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'file', file_id: 'f' } }] }] },
      'messages.0.content.0.source.type',
    ],
    [
      'with an image by a path of the machine',
      {
        messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'url', url: 'file:///etc/passwd' } }] }],
      },
      'messages.0.content.0.source.url',
    ],
    ['with a tool of the provider', { tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 'tools.0.type'],
    ['with a choice and no tools', { tool_choice: { type: 'any' } }, 'tool_choice'],
    ['with servers of tools', { mcp_servers: [{ url: 'https://x' }] }, 'mcp_servers'],
    ['with a container', { container: 'c' }, 'container'],
    ['with rules for its context', { context_management: { edits: [] } }, 'context_management'],
    ['for several answers', { n: 3 }, 'n'],
    ['with another length beside its own', { max_completion_tokens: 9 }, 'max_completion_tokens'],
    ['with a temperature that is a word', { temperature: 'hot' }, 'temperature'],
    ['with thoughts of no kind', { thinking: { type: 'deep' } }, 'thinking.type'],
  ])('%s', (_what, more, param) => {
    const { code, param: named } = refusal(more);
    expect([code, ERRORS[code].status, named]).toEqual(['invalid_request', 400, param]);
  });

  it.each(['', '[1]', '{', 'null'])('when its body is %j', (body) => {
    expect(() => translated(Buffer.from(body))).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });
});

describe('whatever is sent', () => {
  const seed = Date.now() % 2 ** 31;
  const members = ['role', 'content', 'type', 'text', 'source', 'name', 'id', 'input', 'tool_use_id', 'is_error'];
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom<unknown>(
        'user',
        'assistant',
        'text',
        'image',
        'tool_use',
        'tool_result',
        'auto',
        null,
        1,
        true,
        '',
      ),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(fc.oneof(fc.constantFrom(...members, '__proto__'), fc.string()), tie('value'), { maxKeys: 4 }),
    ),
  })).value;

  it(`is read or refused, and nothing else comes of it (fast-check seed ${seed})`, () => {
    const fields = [...Object.keys(chat({ tools: [weather] })), 'system', 'thinking', 'output_config', 'metadata'];
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...fields), json, { maxKeys: 3 }), json, (more, turns) => {
        for (const body of [
          { ...hello, ...more },
          { ...hello, messages: turns },
          { ...hello, messages: [turns] },
        ]) {
          try {
            expect(translated(raw(body)).model).toBeDefined();
          } catch (error) {
            expect(error).toMatchObject({ code: 'invalid_request' });
          }
        }
      }),
      { seed, numRuns: 1_000 },
    );
  });

  it('is refused, not a fault of ours, where it is nested without end', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const input = `{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"t","input":{"a":${deep}}}]}]}`;
    expect(() => translated(Buffer.from(input))).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    const elsewhere = translated(Buffer.from(`{"own":${deep},${JSON.stringify(hello).slice(1)}`));
    expect(() => upstreamBody(elsewhere, 'm')).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });
});

describe('a request for a worker that speaks Messages', () => {
  const bytes = Buffer.from(
    '{ "messages" : [{"role":"user","content":"\\u00e4 ä 1e2"}],\n "model":"m", "max_tokens":10.0, "own":1 }',
  );

  it.each([
    ['to create', () => readMessagesRequest(bytes)],
    ['to count', () => readCountTokensRequest(bytes)],
  ])('%s goes on byte for byte but for its model, and nothing but the model is judged', (_what, read) => {
    expect(upstreamBody(read(), 'org/w').toString()).toBe(bytes.toString().replace('"m"', '"org/w"'));
    const document = { role: 'user', content: [{ type: 'document' }] };
    const own = { ...hello, messages: [document], container: 'c', stop: 1 };
    expect(() => readMessagesRequest(raw(own))).not.toThrow();
    expect(() => readMessagesRequest(raw({ ...own, model: 7 }))).toThrow(expect.objectContaining({ param: 'model' }));
  });
});

describe('a question for the number of tokens', () => {
  it('is the same conversation, without what is asked of an answer', () => {
    const { body, model } = readCountTokensRequest(
      raw({ ...hello, max_tokens: undefined, system: 'Be brief.', tools: [weather], thinking: { type: 'disabled' } }),
    ).translated();
    expect(model).toBe('m');
    expect(body).toEqual({
      model: 'm',
      messages: [{ role: 'system', content: 'Be brief.' }, ...hello.messages],
      tools: [chatTool()],
      chat_template_kwargs: { enable_thinking: false, thinking: false },
      add_generation_prompt: true,
    });
  });
});

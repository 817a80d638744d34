// After a whole run: no secret is anywhere but with the one it was given to, and no personal data is in what lasts.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';
import { files, messages, metrics, redisKeys, rows, type Kept } from './kept-things.ts';

const PASSWORD = 'a-password-nobody-else-has';
const NEXT_PASSWORD = 'another-password-nobody-has';
const WRONG_PASSWORD = 'a-wrong-guess-of-a-password';
const EMAIL = 'somebody.quite.unusual@example.com';
const PERSON = 'Quite Unusual-Somebody';
const PROMPT = 'the-words-of-a-prompt-that-nobody-keeps';

let stack: TestStack;
const secrets: Record<string, string> = {};
let kept: Kept[];

beforeAll(async () => {
  stack = await startTestStack({ workers: 1, serviceEnv: everybodySays('debug') });
  await live();
  kept = [
    ...(await rows(stack)),
    ...(await messages(stack)),
    ...(await metrics(stack)),
    ...(await redisKeys(stack)),
    ...files(stack),
  ];
}, STACK_START_MS + 60_000);
afterAll(() => stack?.stop());

const everybodySays = (level: string) =>
  Object.fromEntries(['auth', 'gateway', 'billing', 'metering', 'router'].map((name) => [name, { LOG_LEVEL: level }]));

interface Answer {
  data: { id: string; apiKey: string; token: string; invitation: { token: string }; managementKey: { apiKey: string } };
}
const ask = async (key: string | undefined, method: string, path: string, body?: unknown) =>
  (await call<Answer>(stack.baseUrl, key, method, path, body)).body.data;

/** A life with every kind of secret in it: made, used, used wrongly, rotated, ended. */
async function live(): Promise<void> {
  const own = stack.demo.managementKey;
  Object.assign(secrets, { operator: stack.operatorKey, management: own, inference: stack.demo.inferenceKey });
  const chat = (key: string, extra = {}) =>
    call(stack.baseUrl, key, 'POST', '/v1/chat/completions', {
      model: stack.demo.model,
      messages: [{ role: 'user', content: PROMPT }],
      max_tokens: 5,
      ...extra,
    });

  const key = await ask(own, 'POST', '/api/keys/credit', { name: 'a', rpm: 1000 });
  secrets['credit key'] = key.apiKey;
  await chat(key.apiKey);
  const rotated = await ask(own, 'POST', `/api/keys/${key.id}/rotate`, { graceSeconds: 600 });
  secrets['rotated key'] = rotated.apiKey;
  await chat(key.apiKey);
  await chat(rotated.apiKey);
  // The other dialect: answered, counted, cut off, and refused for what stands in it.
  const messages = (body: unknown, path = '') =>
    call(stack.baseUrl, rotated.apiKey, 'POST', `/v1/messages${path}`, body);
  const message = {
    model: stack.demo.model,
    max_tokens: 5,
    system: PROMPT,
    messages: [{ role: 'user', content: PROMPT }],
  };
  await messages(message);
  await messages(message, '/count_tokens');
  await messages({ ...message, messages: [{ role: PROMPT, content: [{ type: PROMPT }] }] });
  await messages({ ...message, temperature: PROMPT });
  await messages(JSON.stringify(message).slice(0, -2));
  const made = await ask(own, 'POST', '/api/keys/management', { name: 'm' });
  secrets['second management key'] = made.apiKey;
  await ask(made.apiKey, 'GET', '/api/keys');
  const dialect = (await call<{ key: string }>(stack.baseUrl, own, 'POST', '/v1/api-keys', { name: 'b' })).body;
  secrets['001 key'] = dialect.key;

  const invited = await ask(own, 'POST', '/api/members', { email: EMAIL, name: PERSON, role: 'admin' });
  secrets['invitation'] = invited.invitation.token;
  await ask(undefined, 'POST', '/api/auth/accept', { token: invited.invitation.token, password: PASSWORD });
  await ask(undefined, 'POST', '/api/auth/login', { email: EMAIL, password: WRONG_PASSWORD });
  const session = await ask(undefined, 'POST', '/api/auth/login', { email: EMAIL, password: PASSWORD });
  secrets['session'] = session.token;
  const madeByMember = await ask(session.token, 'POST', '/api/keys/credit', { name: 'by-a-member' });
  secrets['key by a member'] = madeByMember.apiKey;
  await ask(session.token, 'PUT', '/api/auth/password', { current: PASSWORD, next: NEXT_PASSWORD });
  await ask(undefined, 'POST', '/api/keys/report-leak', { secret: madeByMember.apiKey });
  await ask(undefined, 'POST', '/api/keys/report-leak', { secret: `${madeByMember.apiKey}x` });
  await chat(madeByMember.apiKey);
  const other = await ask(stack.operatorKey, 'POST', '/api/operator/credentials', { name: 'o' });
  secrets['operator credential'] = other.apiKey;
  await ask(other.apiKey, 'GET', '/api/operator/organizations');
  // Used wrongly: on the other plane, in a path, in a query, in a body that is not valid.
  await chat(own);
  await ask(key.apiKey, 'GET', '/api/keys');
  await call(stack.baseUrl, own, 'GET', `/api/keys/${key.apiKey}`);
  await call(stack.baseUrl, own, 'GET', `/api/keys?cursor=${key.apiKey}`);
  await call(stack.baseUrl, own, 'POST', '/api/keys/credit', { name: key.apiKey.repeat(4) });
  await call(stack.baseUrl, own, 'POST', '/api/keys/credit', `{"name": "${key.apiKey}`);
  await call(stack.baseUrl, own, 'DELETE', `/api/keys/${key.id}`);
  await chat(key.apiKey);
  await ask(session.token, 'POST', '/api/auth/logout');
  for (const value of Object.values(secrets)) expect(value).toMatch(/^[\w-]{20,}$/);
  Object.assign(secrets, { password: PASSWORD, 'next password': NEXT_PASSWORD, 'wrong password': WRONG_PASSWORD });
  // Until what was used is settled, and told.
  await eventually(async () => {
    const { body } = await call<{ data: unknown[] }>(stack.baseUrl, own, 'GET', '/api/usage?groupBy=key');
    return body.data.length > 0;
  });
  await new Promise((resolve) => setTimeout(resolve, 3_000));
}

/** The places where a text stands. */
const placesOf = (text: string) => kept.filter(([, content]) => content.includes(text)).map(([place]) => place);
/** Without prefix and checksum, as a piece of it would be too much as well. */
const bodyOf = (secret: string) => secret.replace(/^[a-z]+_(?:[a-z]+_)?/, '').slice(10, 40);

describe('after a whole run', () => {
  it('there was something to search', () => {
    expect(kept.length).toBeGreaterThan(30);
    expect(placesOf('KeyIssued')).toContain("auth's table public.events");
    expect(placesOf('sluice.auth.key.revoked.v1')).toContain('stream EVT_AUTH');
    expect(placesOf('"level"').length).toBeGreaterThanOrEqual(5);
  });

  it('no secret is in a database, a stream, a log, a journal, a metric or Redis', () => {
    const found = Object.entries(secrets).flatMap(([name, secret]) => {
      const searched = /password/.test(name) ? secret : bodyOf(secret);
      return placesOf(searched).map((place) => `${name}: ${place}`);
    });
    expect(found).toEqual([]);
  });

  it('no prompt is kept anywhere', () => {
    expect(placesOf(PROMPT)).toEqual([]);
  });

  it('who a person is stands in the table of persons and nowhere else', () => {
    expect(placesOf(EMAIL)).toEqual(["auth's table public.persons"]);
    expect(placesOf(PERSON)).toEqual(["auth's table public.persons"]);
  });
});

// What a case is, and what its request is made of.
import * as fc from 'fast-check';
import type { Sending } from './client.ts';
import type { Script, Shape } from './scripts.ts';

export type Kind = 'worker' | 'leaving' | 'body' | 'edge' | 'raw';

export interface Case {
  readonly kind: Kind;
  readonly what: string;
  readonly method: string;
  readonly path: string;
  readonly sending: Sending;
  readonly script?: Script;
  readonly asksStream?: boolean;
}

/** Secrets of keys that are really there, or were. */
export interface Keys {
  readonly good: string;
  readonly limited: string;
  readonly revoked: string;
  readonly management: string;
}

/** A case but for what is only known when it is played: its id, which is in the prompt, and the keys. */
export type Plan = (id: string, keys: Keys) => Case;

export interface Endpoint {
  readonly path: string;
  readonly shape: Shape;
  readonly streams: boolean;
  readonly body: (mark: string) => Record<string, unknown>;
}

const MODEL = 'demo/large-70b';
const turn = (mark: string) => ({ model: MODEL, messages: [{ role: 'user', content: `${mark} Hi` }] });
const chat = (mark: string) => ({ ...turn(mark), max_tokens: 16 });
const text = (mark: string) => ({ model: MODEL, prompt: `${mark} Hi`, max_tokens: 16 });
const input = (mark: string) => ({ model: MODEL, input: `${mark} Hi` });
export const ENDPOINTS: readonly Endpoint[] = [
  { path: '/chat/completions', shape: 'chat', streams: true, body: chat },
  { path: '/completions', shape: 'text', streams: true, body: text },
  { path: '/embeddings', shape: 'embeddings', streams: false, body: input },
  { path: '/messages', shape: 'chat', streams: true, body: chat },
  { path: '/responses', shape: 'responses', streams: true, body: input },
  { path: '/inference', shape: 'text', streams: true, body: text },
  { path: '/messages/count_tokens', shape: 'tokenize', streams: false, body: turn },
];
export const endpoint = fc.constantFrom(...ENDPOINTS);
export const prefix = fc.constantFrom('/v1', '/inference/v1', '/w/default/large/v1');

export type Field = readonly [name: string, value: string];
export const request = (method: string, target: string, fields: readonly Field[], body: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from(
      `${method} ${target} HTTP/1.1\r\nhost: sluice\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
      'latin1',
    ),
    body,
  ]);
export const jsonFields = (key: string, body: Buffer): Field[] => [
  ['authorization', `Bearer ${key}`],
  ['content-type', 'application/json'],
  ['content-length', String(body.length)],
];

/** Without the keys: what is printed may be shown. */
export const redacted = (one: string, keys: Keys): string =>
  Object.entries(keys).reduce((line, [name, secret]: [string, string]) => line.replaceAll(secret, `<${name}>`), one);

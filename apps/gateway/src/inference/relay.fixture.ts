import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { anOpenedRequest } from '@sluice/contracts/usage-record.fixture';
import { systemClock } from '@sluice/primitives/clock';
import type { ServiceTokens } from '@sluice/service-kit';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Counts } from '@sluice/contracts/lost-request';
import type { Journal } from '../journal/journal.service.js';
import type { Cut, Running } from '../keys/in-flight.js';
import type { Keys } from '../keys/keys.service.js';
import type { KnownKey } from '../keys/known-key.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import { readMessagesRequest } from '../messages/translation.js';
import { readResponsesRequest } from '../responses/responses-request.js';
import type { Admission } from './admission.service.js';
import { Exchange } from './exchange.js';
import type { LengthEnd } from './length-end.js';
import { CompletionsReading, type Reading } from './reading.js';
import { refuse } from './refuse.js';
import { Relay } from './relay.service.js';
import type { Said } from '../tokens/said.js';
import type { Tokenizer } from '../tokens/tokenizer.service.js';
import { RouterClient } from './router.client.js';

export const USAGE = '"usage":{"prompt_tokens":7,"completion_tokens":3}';
export const event = (fields: string) => `data: {"choices":[{"delta":{"content":"x"}}]${fields}}\n\n`;
/** The disk is slow on purpose: an answer that does not wait for it is caught. */
export const DISK_MS = 200;
/** For which a client may take nothing. */
const STALL_MS = 500;

const MESSAGES = readMessagesRequest(
  Buffer.from('{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hello, world."}]}'),
);
const TRANSLATED = MESSAGES.translated();
/** Of `/v1/messages`, where the worker speaks it. */
export const PASSED = '/v1/messages?passed';

const RESPONSES = '{"model":"m","input":"Hello, world."}';

function readingOf(url: string): Reading {
  if (url === '/v1/responses') return readResponsesRequest(Buffer.from(RESPONSES), 'r1').reading!;
  if (url === PASSED) return readMessagesRequest(MESSAGES.raw).reading!;
  const wish = url === '/v1/messages' ? TRANSLATED : { wantsUsage: false, wantsContinuousUsage: false };
  return new CompletionsReading(wish, () => 1);
}

export interface RelayWorld {
  /** What the router does with a request. */
  answer: (request: IncomingMessage, response: ServerResponse) => void;
  /** Is there evidence for the key, and what asking again for one without says. */
  alive: boolean;
  verdict: Rejected;
  /** Of a stream in flight, between two chunks. */
  goesOn: () => Promise<void> | undefined;
  ends: Omit<UsageRecord, 'seq'>[];
  onDisk: boolean;
  /** When an END begins to be written, which takes DISK_MS. */
  onEnd: () => void;
  /** Of a request, from its beginning. */
  deadlineMs: number;
  running: Running;
  /** How a stream may be ended when its block is over. */
  lengthEnd: LengthEnd | undefined;
  cuts: Set<Cut>;
  results: string[];
  /** The texts of which the tokenizer was asked; it counts a token for each piece. */
  countedHere: string[];
  /** Running counts in the journal, before the tokenizer was asked. */
  counts: Counts[];
}

let router: Server;
let gateway: FastifyInstance;
let client: RouterClient;
let url: string;

/** A relay between a client and a router that the test plays, anew for each test. */
export function relayWorld(): RelayWorld {
  const world = {} as RelayWorld;
  beforeEach(async () => {
    Object.assign(world, {
      answer: undefined,
      alive: true,
      verdict: new Rejected('invalid_api_key'),
      goesOn: () => undefined,
      ends: [],
      onDisk: false,
      onEnd: () => {},
      deadlineMs: 60_000,
      lengthEnd: undefined,
      cuts: new Set(),
      results: [],
      countedHere: [],
      counts: [],
    });
    router = createServer((request, response) => {
      request.resume();
      request.on('end', () => {
        response.setHeader('x-sluice-worker', 'worker-1');
        response.setHeader('x-sluice-attempt', '1');
        world.answer(request, response);
      });
    });
    await new Promise<void>((resolve) => router.listen(0, '127.0.0.1', resolve));
    const relay = relayIn(world, `http://127.0.0.1:${(router.address() as AddressInfo).port}`);
    gateway = fastify();
    const handle = (request: FastifyRequest, reply: FastifyReply) => run(relay, world, request, reply);
    gateway.post('/', handle);
    gateway.post('/v1/messages', handle);
    gateway.post('/v1/responses', handle);
    url = await gateway.listen({ port: 0, host: '127.0.0.1' });
  });
  afterEach(async () => {
    router.closeAllConnections();
    router.close();
    await client.close();
    await gateway.close();
  });
  return world;
}

function relayIn(world: RelayWorld, routerUrl: string): Relay {
  const admission = {
    holds: () => (world.alive ? aKnownKey() : undefined),
    prove: async () => {
      throw world.verdict;
    },
  } as unknown as Admission;
  const keys = {
    track: (credential: KnownKey, cut: Cut) => {
      world.cuts.add(cut);
      world.running = { credential, cut, drained: false, askedAt: 0 };
      return { running: world.running, off: () => world.cuts.delete(cut) };
    },
    goesOn: () => world.goesOn(),
  } as unknown as Keys;
  const journal = {
    count: (_requestId: string, counts: Counts) => void (world.countedHere.length === 0 && world.counts.push(counts)),
    end: async (record: Omit<UsageRecord, 'seq'>) => {
      world.ends.push(record);
      world.onEnd();
      await sleep(DISK_MS);
      world.onDisk = true;
    },
  } as unknown as Journal;
  const tokens = { headerFor: async () => 'Bearer t' } as unknown as ServiceTokens;
  client = new RouterClient(routerUrl, tokens, admission);
  const tokenizer = {
    count: async (_prompt: object, said: Said) => {
      world.countedHere.push(said.texts.join(''));
      return { input: 4, cachedInput: 0, output: said.pieces };
    },
  } as unknown as Tokenizer;
  return new Relay(client, admission, keys, journal, tokenizer, STALL_MS);
}

async function run(relay: Relay, world: RelayWorld, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const stream = request.headers['x-stream'] === '1';
  const translated = request.url === '/v1/messages';
  try {
    world.results.push(
      await relay.run({
        exchange: new Exchange(anOpenedRequest({ stream }), systemClock.monotonic()),
        admitted: { digest: 'd', credential: aKnownKey(), use: { scope: 'inference:write', address: '127.0.0.1' } },
        request,
        reply,
        path: '/v1/chat/completions',
        body: Buffer.from('{}'),
        reading: readingOf(request.url),
        prompt: {},
        translation: translated ? TRANSLATED.translation : undefined,
        stream,
        lengthEnd: world.lengthEnd,
        deadline: systemClock.monotonic() + world.deadlineMs,
      }),
    );
  } catch (error) {
    world.results.push((error as Rejected).code);
    refuse(reply, error as Rejected);
  }
}

export const post = (stream: boolean, signal: AbortSignal = AbortSignal.timeout(60_000), path = '/') =>
  fetch(url + path, { method: 'POST', headers: stream ? { 'x-stream': '1' } : {}, signal });

/** A client that reads nothing of its answer. */
export function deaf(): Socket {
  const { port, hostname } = new URL(url);
  const socket = connect({ port: Number(port), host: hostname });
  socket.on('error', () => {});
  socket.write('POST / HTTP/1.1\r\nhost: x\r\nx-stream: 1\r\ncontent-length: 0\r\n\r\n');
  return socket;
}

export const sse = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' });

export async function read(response: Response, each: (text: string) => void = () => {}): Promise<string> {
  let text = '';
  for await (const chunk of response.body!) {
    text += Buffer.from(chunk).toString();
    each(text);
  }
  return text;
}

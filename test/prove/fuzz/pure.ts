// The parts of the gateway that read what others wrote, as they were built, in this process: a hundred thousand cases a minute.
import * as fc from 'fast-check';
import { dataOf } from './stream.ts';

const BUILT = new URL('../../../apps/gateway/dist/', import.meta.url);
const built = async <T>(path: string): Promise<T> => (await import(new URL(path, BUILT).href)) as T;

interface WorkerEvent {
  readonly bytes: Buffer;
  readonly usage: unknown;
}
interface Readers {
  readonly sse: {
    readonly EventSplitter: new () => { push(chunk: Buffer): Buffer[]; readonly unfinished: Buffer };
    readonly readWorkerEvent: (event: Buffer, wish: object) => WorkerEvent;
  };
  readonly endpoints: {
    readonly ENDPOINTS: Readonly<Record<string, { read?(body: Buffer, id: string): Read; most: readonly string[] }>>;
  };
  readonly requests: { readonly upstreamBody: (request: Read, model: string) => Buffer };
  readonly estimate: { readonly estimateTokens: (request: Read, most: readonly string[]) => number };
  readonly messages: { readonly readMessagesRequest: (body: Buffer) => Read };
  readonly responses: {
    readonly ResponsesReading: new (estimate: () => number) => { event(event: Buffer): WorkerEvent };
  };
  readonly deadline: { readonly readDeadline: (header: string | string[]) => number };
  readonly secrets: { readonly presentedCredential: (headers: Record<string, string>) => unknown };
}
interface Read {
  readonly model: string;
  readonly body: Record<string, unknown>;
  /** For workers that do not speak its dialect. */
  readonly translated?: () => Read;
  readonly translation?: {
    whole(answer: unknown, id: string): object;
    stream(id: string): { push(event: Buffer, usage: undefined): string; end(usage: undefined): string };
  };
}

async function readers(): Promise<Readers> {
  return {
    sse: await built('inference/sse.js'),
    endpoints: await built('inference/endpoints.js'),
    requests: await built('inference/inference-request.js'),
    estimate: await built('inference/estimate.js'),
    messages: await built('messages/translation.js'),
    responses: await built('responses/responses-reading.js'),
    deadline: await built('inference/deadline.js'),
    secrets: await built('keys/presented-secret.js'),
  };
}

const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 80 }),
  fc
    .string({
      unit: fc.constantFrom('\n', '\r', 'd', 'data: ', '{', '}', '"', ':', ',', '\\', 'ä', '[DONE]', '"usage":', ' '),
      maxLength: 60,
    })
    .map((text) => Buffer.from(text)),
);
const event = fc
  .tuple(
    fc.jsonValue({ maxDepth: 3 }),
    fc.option(fc.jsonValue({ maxDepth: 2 })),
    fc.boolean(),
    fc.constantFrom('data: ', 'data:'),
  )
  .map(([value, usage, first, field]) => {
    const rest = typeof value === 'object' && value !== null && !Array.isArray(value) ? value : { choices: value };
    const { usage: _, ...others } = rest as Record<string, unknown>;
    const given = usage === null ? {} : { usage };
    return { value: first ? { ...given, ...others } : { ...others, ...given }, field };
  });
const chunk = fc.record(
  {
    model: fc.oneof(fc.string(), fc.jsonValue()),
    choices: fc.oneof(
      fc.jsonValue(),
      fc.array(
        fc.record(
          {
            index: fc.oneof(fc.integer({ min: -1, max: 2 }), fc.jsonValue({ maxDepth: 1 })),
            finish_reason: fc.oneof(
              fc.constantFrom('stop', 'length', 'tool_calls', null),
              fc.jsonValue({ maxDepth: 1 }),
            ),
            stop_reason: fc.jsonValue({ maxDepth: 1 }),
            delta: said(),
            message: said(),
          },
          { requiredKeys: [] },
        ),
        { maxLength: 2 },
      ),
    ),
    usage: fc.jsonValue({ maxDepth: 2 }),
  },
  { requiredKeys: [] },
);
function said() {
  const text = fc.oneof(fc.string({ maxLength: 6 }), fc.constant(null), fc.jsonValue({ maxDepth: 1 }));
  const call = fc.record(
    {
      index: fc.oneof(fc.nat(3), fc.double()),
      id: text,
      function: fc.record({ name: text, arguments: text }, { requiredKeys: [] }),
    },
    { requiredKeys: [] },
  );
  return fc.record(
    {
      content: text,
      reasoning: text,
      refusal: text,
      tool_calls: fc.oneof(fc.array(call, { maxLength: 3 }), fc.jsonValue()),
    },
    { requiredKeys: [] },
  );
}

/** Throws what is no refusal of the request's own, and no word of a worker that cannot be read. */
function onlyRefuses(work: () => unknown, names: readonly string[]): void {
  try {
    work();
  } catch (error) {
    const { name, code, status } = error as { name?: string; code?: string; status?: number };
    if (!names.includes(String(name)) || code === 'internal_error' || (status ?? 0) >= 500) throw error;
  }
}
const REFUSALS = ['Rejected'];
const UNREADABLE = ['SyntaxError', 'SseError'];

export type Property = readonly [name: string, share: number, property: fc.IProperty<unknown[]>];

/** @param requestBody bodies as clients send them, of an endpoint */
export async function properties(requestBody: fc.Arbitrary<Buffer>): Promise<readonly Property[]> {
  const { sse, endpoints, requests, estimate, messages, responses, deadline, secrets } = await readers();
  const reads = Object.entries(endpoints.ENDPOINTS).filter(([, endpoint]) => endpoint.read !== undefined);
  const translation = messages.readMessagesRequest(
    Buffer.from('{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'),
  ).translated!().translation!;
  const split = (text: Buffer, cuts: readonly number[]): string[] => {
    const splitter = new sse.EventSplitter();
    const points = [0, ...cuts, text.length];
    const events = points.slice(1).flatMap((end, i) => splitter.push(text.subarray(points[i], end)));
    return [...events, splitter.unfinished].map((part) => part.toString('latin1'));
  };
  const same = (one: unknown, other: unknown, what: string) => {
    if (JSON.stringify(one) !== JSON.stringify(other)) throw new Error(`${what}: ${JSON.stringify([one, other])}`);
  };
  return [
    [
      'SSE cut at every byte',
      30,
      fc.property(bytes, (given) => {
        const text = Buffer.from(given);
        const whole = split(text, []);
        for (let at = 0; at <= text.length; at++) same(split(text, [at]), whole, `cut at ${at}`);
        same(
          split(
            text,
            Array.from(text, (_, at) => at),
          ),
          whole,
          'cut at every byte',
        );
      }),
    ],
    [
      'usage taken out of an event',
      20,
      fc.property(event, ({ value, field }) => {
        const text = `${field}${JSON.stringify(value)}\n\n`;
        const out = sse.readWorkerEvent(Buffer.from(text), { wantsUsage: false, wantsContinuousUsage: false }).bytes;
        if (out.length === 0) return;
        const { usage, ...rest } = value;
        const left = dataOf(out.toString('utf8'))[0];
        if (typeof usage === 'object' && usage !== null && !Array.isArray(usage))
          same(left, JSON.parse(JSON.stringify(rest)), 'without usage');
        else if (left === undefined) throw new Error(`not readable any more: ${out.toString('utf8')}`);
      }),
    ],
    [
      'bytes read as an event',
      10,
      fc.property(bytes, (given) => {
        const one = Buffer.from(given);
        sse.readWorkerEvent(one, { wantsUsage: true, wantsContinuousUsage: false });
        const reading = new responses.ResponsesReading(() => 1);
        onlyRefuses(() => reading.event(one), UNREADABLE);
        const stream = translation.stream('r');
        onlyRefuses(() => stream.push(one, undefined), UNREADABLE);
        onlyRefuses(() => stream.end(undefined), UNREADABLE);
      }),
    ],
    [
      'bodies of requests',
      20,
      fc.property(fc.constantFrom(...reads), requestBody, ([, endpoint], body) => {
        onlyRefuses(() => {
          const request = endpoint.read!(body, 'id');
          for (const sent of [request, request.translated?.() ?? request]) requests.upstreamBody(sent, 'm').toString();
          const tokens = estimate.estimateTokens(request, endpoint.most);
          if (!Number.isSafeInteger(tokens) || tokens < 1) throw new Error(`an estimate of ${tokens}`);
        }, REFUSALS);
      }),
    ],
    [
      'streams of chat completions as messages',
      10,
      fc.property(fc.array(chunk, { maxLength: 6 }), (chunks) => {
        const stream = translation.stream('r');
        onlyRefuses(() => {
          const text =
            chunks.map((one) => stream.push(Buffer.from(`data: ${JSON.stringify(one)}\n\n`), undefined)).join('') +
            stream.end(undefined);
          const types = dataOf<{ type: string }>(text).map(({ type }) => type);
          if (types[0] !== 'message_start' || types.at(-1) !== 'message_stop')
            throw new Error(`events ${types.join()}`);
        }, UNREADABLE);
      }),
    ],
    [
      'whole answers as messages',
      7,
      fc.property(fc.oneof(chunk, fc.jsonValue()), (answer) => {
        onlyRefuses(() => translation.whole(answer, 'r'), UNREADABLE);
      }),
    ],
    [
      'headers',
      3,
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('authorization', 'x-api-key', 'api-key'),
        (value, name) => {
          onlyRefuses(() => deadline.readDeadline(value), REFUSALS);
          onlyRefuses(() => deadline.readDeadline([value, value]), REFUSALS);
          secrets.presentedCredential({ [name]: value });
        },
      ),
    ],
  ];
}

// What a request takes, what a refused one does not, and what it is told: all by the figures in the answers' headers.
import type { Call, IssuedKey } from '../caller.ts';
import { post } from '../caller.ts';
import { Clerk, decided, keyWith, outcome, Streams, until, type Stage } from '../stage.ts';

const HEADERS = {
  requests: 'x-ratelimit-remaining-requests',
  tokens: 'x-ratelimit-remaining-tokens',
} as const;
/** The answer's own way through the machine, on top of the window. */
const SLACK_MS = 30_000;

/** One call after the other, each with what has to come of it. */
class Ledger {
  private readonly stage: Stage;
  private readonly name: string;

  constructor(stage: Stage, name: string) {
    this.stage = stage;
    this.name = name;
  }

  /** @throws Disturbed */
  check(call: Call, came: string, left: Partial<Record<keyof typeof HEADERS, number>>): void {
    requireUndisturbed(call);
    if (outcome(call) !== came) this.stage.problem(`${this.name}: ${outcome(call)} and not ${came}`);
    for (const [what, expected] of Object.entries(left)) {
      const said = call.headers[HEADERS[what as keyof typeof HEADERS]];
      if (said !== String(expected))
        this.stage.problem(`${this.name}, ${came}: ${said} ${what} are left, and not ${expected}`);
    }
    if (call.status === 429) this.checkWait(call);
  }

  private checkWait({ headers, refusal }: Call): void {
    const { windowMs } = this.stage.times;
    // Tokens are counted in 60 parts of a window, of which the oldest counts whole.
    const longest = refusal?.by === 'tokens' ? (windowMs * 61) / 60 : windowMs;
    const [seconds, milliseconds] = [Number(headers['retry-after']), Number(headers['retry-after-ms'])];
    const right =
      milliseconds >= 1 && milliseconds <= longest + 1 && seconds === Math.max(1, Math.ceil(milliseconds / 1_000));
    if (!right || headers['x-should-retry'] !== undefined)
      this.stage.problem(
        `${this.name}: refused by ${refusal?.by} with retry-after ${headers['retry-after']}, retry-after-ms ` +
          `${headers['retry-after-ms']}, x-should-retry ${headers['x-should-retry']}`,
      );
  }
}

export async function whatIsTaken(stage: Stage): Promise<void> {
  const parts = [refusedByTokens, refusedByPlaces, refusedByProject, setRight, messages];
  await Promise.all(parts.map((part) => undisturbed(stage, part)));
}

/** The machine was too busy: then other figures are right. */
class Disturbed extends Error {
  override readonly name = 'Disturbed';
}

/** A gateway whom Redis did not answer in time decided alone; or somebody failed. @throws Disturbed */
function requireUndisturbed(call: Call): void {
  if (call.degraded || !decided(call)) throw new Disturbed(outcome(call));
}

const TRIES = 12;

/** Again, with other keys, when it was disturbed, or took so long that its beginning had left the window. */
async function undisturbed(stage: Stage, part: (stage: Stage, attempt: string) => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const found: string[] = [];
    const from = Date.now();
    let disturbed = false;
    try {
      await part({ ...stage, problem: (what) => void found.push(what) }, String(attempt));
    } catch (error) {
      if (!(error instanceof Disturbed)) throw error;
      found.push(`${part.name} was disturbed: ${error.message}`);
      disturbed = true;
    }
    if (found.length === 0) return;
    if ((disturbed || Date.now() - from >= stage.times.windowMs) && attempt < TRIES) continue;
    for (const what of found) stage.problem(what);
    return;
  }
}

async function refusedByTokens(stage: Stage, attempt: string): Promise<void> {
  const clerk = new Clerk(stage.cluster.gateways);
  const ledger = new Ledger(stage, 'refused by tokens');
  const key = await keyWith(stage, `taken-tokens-${attempt}`, { rpm: 5, tpm: 200 });
  ledger.check(await clerk.small(key, 50), 'admitted', { requests: 4, tokens: 150 });
  for (let i = 0; i < 3; i++) ledger.check(await clerk.small(key, 151), 'key:tokens', { requests: 4, tokens: 150 });
  for (let i = 1; i <= 4; i++)
    ledger.check(await clerk.small(key, 2), 'admitted', { requests: 4 - i, tokens: 150 - 2 * i });
  for (let i = 0; i < 3; i++) ledger.check(await clerk.small(key, 2), 'key:requests', { requests: 0, tokens: 142 });
}

async function refusedByPlaces(stage: Stage, attempt: string): Promise<void> {
  const clerk = new Clerk(stage.cluster.gateways);
  const ledger = new Ledger(stage, 'refused by places');
  const key = await keyWith(stage, `taken-places-${attempt}`, { rpm: 6, concurrency: 2 });
  const streams = new Streams();
  try {
    for (const left of [5, 4]) ledger.check(await streams.open(clerk.next(), key), 'admitted', { requests: left });
    for (let i = 0; i < 3; i++) ledger.check(await clerk.small(key), 'key:concurrency', { requests: 4 });
  } finally {
    await streams.close();
  }
  let call: Call;
  // A place is given back in the background.
  await until(async () => (call = await clerk.small(key)).refusal?.by !== 'concurrency');
  ledger.check(call!, 'admitted', { requests: 3 });
}

async function refusedByProject(stage: Stage, attempt: string): Promise<void> {
  const clerk = new Clerk(stage.cluster.gateways);
  const ledger = new Ledger(stage, 'refused by its project');
  const key = await keyWith(stage, `taken-project-${attempt}`, { rpm: 10, tpm: 1_000 }, { rpm: 3 });
  for (const left of [9, 8, 7]) ledger.check(await clerk.small(key), 'admitted', { requests: left });
  for (let i = 0; i < 3; i++) ledger.check(await clerk.small(key), 'project:requests', { requests: 7, tokens: 994 });
}

/** The estimate counts characters; the fact is less of a long word, and more of rare signs. */
async function setRight(stage: Stage, attempt: string): Promise<void> {
  const texts = { less: ' international'.repeat(100), more: '¤'.repeat(200) };
  for (const [how, prompt] of Object.entries(texts)) {
    const clerk = new Clerk(stage.cluster.gateways);
    const key = await keyWith(stage, `taken-${how}-${attempt}`, { tpm: 2_000 });
    const body = { model: 'demo/small-7b', prompt, max_tokens: 10, min_tokens: 10, ignore_eos: true };
    const first = await post(clerk.next(), key, '/v1/completions', body).end;
    const estimate = Math.ceil(prompt.length / 4) + 10;
    requireUndisturbed(first);
    const left = Number(first.headers[HEADERS.tokens]);
    const fact =
      (JSON.parse(first.text || '{}') as { usage?: { total_tokens?: number } }).usage?.total_tokens ?? Number.NaN;
    if (left !== 2_000 - estimate || !(how === 'less' ? fact < estimate : fact > estimate))
      stage.problem(`set right: an estimate of ${estimate} left ${left}, the fact is ${fact}: ${outcome(first)}`);
    let asked = 0;
    // The fact is told in the background.
    const settled = await until(async () => {
      const call = await clerk.small(key);
      requireUndisturbed(call);
      return Number(call.headers[HEADERS.tokens]) === 2_000 - fact - 2 * ++asked;
    }, stage.times.windowMs / 4);
    if (settled === undefined) stage.problem(`set right: ${how} than the estimate is not what is left in the end`);
  }
}

async function messages(stage: Stage, attempt: string): Promise<void> {
  const clerk = new Clerk(stage.cluster.gateways);
  const key = await keyWith(stage, `taken-messages-${attempt}`, { rpm: 3, tpm: 10_000 });
  const send = (stream: boolean) => {
    const body = { model: 'demo/small-7b', max_tokens: 2, stream, messages: [{ role: 'user', content: 'Hello' }] };
    return post(clerk.next(), key, '/v1/messages', body).end;
  };
  for (const [left, stream] of [
    [2, false],
    [1, true],
    [0, false],
    [0, false],
  ] as const) {
    const call = await send(stream);
    requireUndisturbed(call);
    checkMessage(stage, key, call, left);
  }
}

function checkMessage({ problem, times }: Stage, { name }: IssuedKey, { headers, sentAt }: Call, left: number): void {
  const said = (what: string) => headers[`anthropic-ratelimit-${what}`];
  const reset = Date.parse(said('requests-reset') ?? '');
  const right =
    said('requests-limit') === '3' &&
    said('requests-remaining') === String(left) &&
    said('tokens-limit') === '10000' &&
    Number(said('tokens-remaining')) < 10_000 &&
    reset >= sentAt &&
    reset <= sentAt + times.windowMs + SLACK_MS &&
    headers['request-id'] !== undefined &&
    Object.keys(headers).every((header) => !header.startsWith('x-ratelimit'));
  if (!right) problem(`${name}: ${left} should be left, and the headers are ${JSON.stringify(headers)}`);
}

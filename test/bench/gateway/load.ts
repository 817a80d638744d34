import { spawn, type ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Tool } from './tools.ts';

const LUA = fileURLToPath(new URL('load.lua', import.meta.url));
const AUTOCANNON = fileURLToPath(new URL('autocannon.ts', import.meta.url));
/** How long an answer may take after the last request was sent; wrk counts it as an error then. */
const DRAIN_SECONDS = 1;
const FIRST_GUESS_RPS = 500;

export interface Order {
  readonly url: string;
  readonly path: string;
  /** `{key}` in a value stands for the key. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** A file with one key a line. */
  readonly keys: string;
  readonly connections: number;
  /** In which requests are sent. */
  readonly seconds: number;
  /** The longest that one answer takes, in seconds, where that is long. */
  readonly answerSeconds?: number;
  /** Requests a second; as fast as the answers come where it is not given. */
  readonly rate?: number;
}

export interface Load {
  /** Answered, all of them. */
  readonly requests: number;
  /** Of them, or beside them, what was no 2xx, could not be sent, or was cut. */
  readonly errors: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Of the load program itself. */
  readonly cpuMs: number;
}

/** What wrk's script and the autocannon process print as their last line; latencies in microseconds. */
export interface Printed {
  readonly requests: number;
  readonly errors: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly cpuMs: number;
  readonly seconds?: number;
}

/** Sends load from a process of its own. */
export class Loader {
  private readonly guesses = new Map<string, number>();
  private readonly wrk: Tool | undefined;
  private readonly dir: string;
  private readonly stopping: AbortSignal;

  constructor(wrk: Tool | undefined, dir: string, stopping: AbortSignal) {
    this.wrk = wrk;
    this.dir = dir;
    this.stopping = stopping;
  }

  async run(order: Order): Promise<Load> {
    const printed = await (this.wrk ? this.withWrk(this.wrk, order) : this.withAutocannon(order));
    const { requests, errors, p50, p90, p99, max, cpuMs, seconds = order.seconds } = printed;
    return {
      requests,
      errors,
      seconds,
      p50Ms: p50 / 1000,
      p90Ms: p90 / 1000,
      p99Ms: p99 / 1000,
      maxMs: max / 1000,
      cpuMs,
    };
  }

  private withWrk({ command, env }: Tool, order: Order): Promise<Printed> {
    const { url, path, headers, body, keys, connections, seconds, answerSeconds = 0, rate = 0 } = order;
    const file = join(this.dir, 'request.http');
    const lines = { host: new URL(url).host, 'content-length': String(Buffer.byteLength(body)), ...headers };
    const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
    writeFileSync(file, `POST ${path} HTTP/1.1\r\n${head.join('')}\r\n${body}`);
    const whole = Math.ceil(seconds + answerSeconds + DRAIN_SECONDS);
    const args = ['-t1', `-c${connections}`, `-d${whole}s`, '--timeout', `${whole}s`, '-s', LUA, url, '--'];
    const child = spawn(command, [...args, file, keys, String(seconds), String(rate)], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return this.printedBy(child);
  }

  /** It destroys what is in flight when its time is over, so it is given a number of requests instead. */
  private async withAutocannon(order: Order): Promise<Printed> {
    const key = `${order.url} ${order.connections} ${order.body.length}`;
    const rps = order.rate ?? this.guesses.get(key) ?? FIRST_GUESS_RPS;
    const amount = Math.max(order.connections, Math.round(rps * order.seconds));
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', AUTOCANNON], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.end(JSON.stringify({ ...order, amount }));
    const printed = await this.printedBy(child);
    if (order.rate === undefined) this.guesses.set(key, printed.requests / printed.seconds!);
    return printed;
  }

  private printedBy(child: ChildProcess): Promise<Printed> {
    let text = '';
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    const stop = () => child.kill('SIGKILL');
    this.stopping.addEventListener('abort', stop, { once: true });
    return new Promise<Printed>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', () => {
        const line = text.trim().split('\n').at(-1) ?? '';
        if (line.startsWith('{')) resolve(JSON.parse(line) as Printed);
        else reject(new Error(`the load program ended without a result: ${text.slice(-500)}`));
      });
    }).finally(() => this.stopping.removeEventListener('abort', stop));
  }
}

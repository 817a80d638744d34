import { round } from './figures.ts';

const INTERVAL_US = 250;
const SHOWN = 40;

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly children?: readonly number[];
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface Share {
  readonly name: string;
  readonly us: number;
}

/** One process' main thread, in microseconds per request. */
export interface ProfileFigures {
  readonly busyUs: number;
  /** Time of its own, and of what it called in Node itself: the socket write that undici asked for is undici's. */
  readonly owners: readonly Share[];
  /** Self time. */
  readonly functions: readonly Share[];
}

/** One process that was started with `--inspect`. */
export class Profiler {
  private readonly socket: WebSocket;
  private readonly waiting = new Map<number, (result: unknown) => void>();
  private next = 0;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const { id, result } = JSON.parse(String(data)) as { id: number; result: unknown };
      this.waiting.get(id)?.(result);
      this.waiting.delete(id);
    });
  }

  static async attach(port: number): Promise<Profiler> {
    const targets = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as {
      webSocketDebuggerUrl: string;
    }[];
    const socket = new WebSocket(targets[0]!.webSocketDebuggerUrl);
    await new Promise<void>((resolve, reject) => {
      socket.addEventListener('open', () => resolve());
      socket.addEventListener('error', () => reject(new Error(`no inspector on port ${port}`)));
    });
    const profiler = new Profiler(socket);
    await profiler.ask('Profiler.enable');
    await profiler.ask('Profiler.setSamplingInterval', { interval: INTERVAL_US });
    return profiler;
  }

  async start(): Promise<void> {
    await this.ask('Profiler.start');
  }

  async stop(): Promise<CpuProfile> {
    const { profile } = (await this.ask('Profiler.stop')) as { profile: CpuProfile };
    this.socket.close();
    return profile;
  }

  private ask(method: string, params: object = {}): Promise<unknown> {
    const id = ++this.next;
    this.socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve) => this.waiting.set(id, resolve));
  }
}

export function profileFigures({ nodes, samples, timeDeltas }: CpuProfile, requests: number): ProfileFigures {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const owners = new Map<string, number>();
  const functions = new Map<string, number>();
  const add = (to: Map<string, number>, name: string, us: number) => to.set(name, (to.get(name) ?? 0) + us);
  let busy = 0;
  samples.forEach((id, i) => {
    const { functionName, url, lineNumber } = byId.get(id)!.callFrame;
    const us = timeDeltas[i]!;
    if (functionName === '(idle)') return;
    busy += us;
    add(owners, ownerOf(id), us);
    const place = url === '' ? ownerOf(id) : `${moduleOf(url)}:${lineNumber + 1}`;
    add(functions, `${functionName || '(anonymous)'}  ${place}`, us);
  });
  const top = (from: ReadonlyMap<string, number>): Share[] =>
    Array.from(from, ([name, us]) => ({ name, us: round(us / requests, 2) }))
      .toSorted((a, b) => b.us - a.us)
      .slice(0, SHOWN);
  return { busyUs: round(busy / requests, 1), owners: top(owners), functions: top(functions) };

  /** The next caller that is not Node itself; else the outermost part of Node. What V8 does by itself stands in brackets. */
  function ownerOf(id: number): string {
    const { functionName, url } = byId.get(id)!.callFrame;
    if (url === '' && functionName.startsWith('(')) return functionName;
    let outermost = '(native)';
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const { url } = byId.get(at)!.callFrame;
      if (url === '') continue;
      if (!url.startsWith('node:')) return moduleOf(url);
      outermost = url;
    }
    return outermost;
  }
}

/** A file of ours, a package, or a part of Node. */
function moduleOf(url: string): string {
  if (url.startsWith('node:')) return url;
  const ours = /\/(apps|libs)\/([^/]+)\/dist\/(.+)$/.exec(url);
  if (ours) return `${ours[1]}/${ours[2]}/${ours[3]}`;
  const packaged = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url);
  return packaged?.[1] ?? url.slice(url.lastIndexOf('/') + 1);
}

export const profileText = (name: string, { busyUs, owners, functions }: ProfileFigures): string =>
  [
    `${name}: ${busyUs} µs a request on the main thread, while it is profiled; by owner, then self time by function`,
    ...owners.map((share) => `  ${share.us.toFixed(2).padStart(7)}  ${share.name}`),
    '',
    ...functions.map((share) => `  ${share.us.toFixed(2).padStart(7)}  ${share.name}`),
  ].join('\n');
